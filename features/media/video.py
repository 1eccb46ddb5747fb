"""The frames of a video with their timestamps."""

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

MIN_DECODED_SHARE = 0.95  # least part of what a container promises that must decode


@dataclass(frozen=True, slots=True)
class Probe:
    """What a container lists, without decoding."""

    n_frames: int
    """Video packets; each holds one frame."""
    mean_fps: float
    variable_rate: bool
    """Whether the time from frame to frame differs by more than the container's rounding."""
    has_sound: bool


def probe(path: Path, limits: DecodeLimits = DEFAULT_LIMITS) -> Probe:
    """What the container of a video lists; `MediaError` where it is no video."""
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
        has_sound = bool(container.streams.audio)
    steps = np.diff(sorted(stamps))
    jitter_s = 0.002  # containers round to a millisecond at the coarsest
    variable = len(steps) > 1 and float(steps.max() - steps.min()) > 2 * jitter_s
    return Probe(n_packets, rate, variable, has_sound)


PacketTap = Callable[[av.container.InputContainer], Callable[[av.Packet | None], None]]
"""Given an open container, what takes each of its packets, of whatever track; None at their end."""


def decoded_frames(
    path: Path,
    lost_s: list[float],
    limits: DecodeLimits = DEFAULT_LIMITS,
    n_threads: int = 0,
    beside: PacketTap | None = None,
) -> Iterator[av.VideoFrame]:
    """Every frame of a video in the order shown; `frame.time` is its presentation time or None.

    Decodes on so many threads; 0 is one per core. What `beside` gives sees the packets of all
    tracks as they pass, so that another track needs no reading of its own.

    Puts into `lost_s`, at the end, the times of frames that did not decode though frames before
    and after them did: they are rows too, or all that follow would slip.
    Raises `MediaError` at the end when fewer than 95 % of the frames that the container promises
    decoded without damage: that is a broken file, not a short clip.
    """
    n_whole, n_damaged, last_s = 0, 0, 0.0
    listed_s: set[float] = set()
    decoded_s: set[float] = set()
    with open_container(path, limits) as container:
        stream = video_stream(path, container, limits, n_threads)
        feed = beside(container) if beside else None
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
                    n_whole += 1
                check_frames(path, n_whole + n_damaged, limits)
                check_pixels(path, frame.width, frame.height, limits)
                last_s = max(last_s, frame.time or 0.0)
                yield frame
        if feed:
            feed(None)
        promised, got, unit = stream.frames, float(n_whole), "frames"
        if not promised and stream.average_rate:  # no count in the container: go by its length
            promised, unit = _duration_s(container, stream), "seconds"
            got = (last_s + 1 / float(stream.average_rate)) * n_whole / max(1, n_whole + n_damaged)
    if n_whole == 0:
        raise MediaError(f"{path}: no frame decodes; replace the file", "no-frames")
    if got < MIN_DECODED_SHARE * promised:
        raise MediaError(
            f"{path}: {got:.6g} of the {promised:.6g} {unit} that the container promises decode, "
            f"fewer than {MIN_DECODED_SHARE:.0%}: the file is truncated or damaged; replace it",
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
    """When each frame is shown: its own timestamp, as the container gives it.

    Where one is missing or does not increase, all are k / fps of the declared rate, else of the
    container's mean rate.
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


def to_rgb(frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
    """A decoded frame as RGB; `MediaError` where its format cannot be converted."""
    try:
        return frame.to_ndarray(format="rgb24", threads=1)  # pyright: ignore[reportCallIssue]
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise  # of the process, not of the file
        name = frame.format.name
        raise MediaError(f"a frame of format {name} has no RGB ({error})", "damaged") from None


def _duration_s(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base
