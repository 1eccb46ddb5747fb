"""Video decoding: frames, and their presentation times."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import av.container
import av.error
import numpy as np
from jaxtyping import UInt8

from features.errors import MediaError
from features.media.container import open_container, video_stream
from features.media.limits import (
    DEFAULT_LIMITS,
    DecodeLimits,
    check_frames,
    check_pixels,
    check_time,
)
from features.timeline import FrameTimes, constant_frame_times

MIN_DECODED_SHARE = 0.95  # of what the container's header lists; less is a broken file
MAX_JITTER_S = 0.002  # of one timestamp: containers round to a millisecond at the coarsest

Image = UInt8[np.ndarray, "_ _ 3"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What a container lists, without decoding."""

    n_frames: int
    """Video packets; each holds one frame."""
    mean_fps: float
    variable_rate: bool
    """Whether the frame interval varies by more than the container's rounding."""
    has_audio: bool


def probe(path: Path, limits: DecodeLimits = DEFAULT_LIMITS) -> Probe:
    """What the container of a video lists; `MediaError` if the file has no video."""
    stamps: list[float] = []
    n_packets = 0
    with open_container(path, limits) as container:
        stream = video_stream(path, container, limits)
        for packet in container.demux(stream):
            if packet.size:
                n_packets += 1
                check_frames(path, n_packets, limits)
                if packet.pts is not None:
                    stamps.append(float(packet.pts * packet.time_base))
        rate = float(stream.average_rate or 0)
        has_audio = bool(container.streams.audio)
    steps = np.diff(sorted(stamps))
    variable = len(steps) > 1 and float(steps.max() - steps.min()) > 2 * MAX_JITTER_S
    return Probe(n_packets, rate, variable, has_audio)


PacketTap = Callable[[av.container.InputContainer], Callable[[av.Packet | None], None] | None]
"""Called with the open container; what it returns is called with every packet, then with None."""


def decoded_frames(
    path: Path,
    lost_s: list[float],
    limits: DecodeLimits = DEFAULT_LIMITS,
    n_threads: int = 0,
    packet_tap: PacketTap | None = None,
) -> Iterator[av.VideoFrame]:
    """Yield every frame of a video in presentation order; `frame.time` is in seconds, or None.

    `n_threads` = 0 is one per core. `packet_tap` receives the packets of all streams, so that
    another stream can be decoded in the same pass.

    At the end, `lost_s` receives the times of frames that did not decode although frames before and
    after them did: they are rows too, or all later rows would shift. Raises `MediaError` at the end
    if less than 95 % of the frames in the container's header decoded without damage.
    """
    n_intact, n_damaged, last_s = 0, 0, 0.0
    listed_s: set[float] = set()
    decoded_s: set[float] = set()
    with open_container(path, limits) as container:
        stream = video_stream(path, container, limits, n_threads)
        feed = packet_tap(container) if packet_tap else None
        for packet in container.demux() if feed else container.demux(stream):
            if feed:
                feed(packet)
            if packet.stream is not stream:
                continue
            if packet.size and packet.pts is not None and not packet.is_discard:
                listed_s.add(float(packet.pts * packet.time_base))
                check_frames(path, len(listed_s), limits)
            try:
                frames = stream.decode(packet)
            except av.error.InvalidDataError:
                n_damaged += 1
                continue
            for frame in frames:
                if frame.time is not None:
                    check_time(path, frame.time, limits)
                    decoded_s.add(frame.time)
                if frame.is_corrupt:
                    n_damaged += 1
                else:
                    n_intact += 1
                check_frames(path, n_intact + n_damaged, limits)
                check_pixels(path, frame.width, frame.height, limits)
                last_s = max(last_s, frame.time or 0.0)
                yield frame
        if feed:
            feed(None)
        expected, decoded, unit = stream.frames, float(n_intact), "frames"
        if not expected and stream.average_rate:  # the header has a duration, and no frame count
            expected, unit = _duration_s(container, stream), "seconds"
            decoded = (
                (last_s + 1 / float(stream.average_rate)) * n_intact / max(1, n_intact + n_damaged)
            )
    if n_intact == 0:
        raise MediaError(f"{path}: no frame decodes; replace the file", "no-frames")
    if decoded < MIN_DECODED_SHARE * expected:
        raise MediaError(
            f"{path}: {decoded:.6g} of the {expected:.6g} {unit} that the container promises "
            f"decode, fewer than {MIN_DECODED_SHARE:.0%}: the file is truncated or damaged; "
            "replace it",
            "incomplete",
        )
    if n_damaged and decoded_s:
        first_s, after_s = min(decoded_s), max(decoded_s)
        lost_s += sorted(t for t in listed_s - decoded_s if first_s < t < after_s)


def frame_times(
    stamps_s: Sequence[float | None],
    lost_s: Sequence[float],
    declared_fps: float | None,
    path: Path,
) -> FrameTimes:
    """The presentation time of each frame, from its timestamp.

    If a timestamp is missing or does not increase, frame k is at k / fps, with the declared rate or
    else the container's mean rate. Raises `MediaError` if there is no rate either.
    """
    if None not in stamps_s:
        shown_s = np.array(stamps_s, dtype=np.float64)
        if np.all(np.diff(shown_s) > 0):
            time_s = np.sort(np.concatenate([shown_s, np.array(lost_s, dtype=np.float64)]))
            note = f"{len(lost_s)} frames lost to damage" if lost_s else None
            return FrameTimes(time_s, np.searchsorted(time_s, shown_s), note)
    fps = declared_fps or probe(path).mean_fps
    if not fps:
        raise MediaError(
            f"{path}: timestamps are missing or fall back and no rate is known; "
            "declare one as `fps` in the manifest",
            "no-clock",
        )
    return constant_frame_times(len(stamps_s), fps, "timestamps unusable")


def to_rgb(frame: av.VideoFrame) -> Image:
    """A decoded frame as RGB; `MediaError` if its pixel format cannot be converted."""
    try:
        return frame.to_ndarray(format="rgb24", threads=1)  # pyright: ignore[reportCallIssue]
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise  # the process is out of memory: not an error of the file
        name = frame.format.name
        raise MediaError(f"a frame of format {name} has no RGB ({error})", "damaged") from None


def _duration_s(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base
