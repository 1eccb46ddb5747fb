"""Frames with timestamps, and sound: the only file that opens a container."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import av.container
import av.error
import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from features.errors import MediaCode, MediaError

WHOLE = 0.95  # least part of what a container promises that must decode
GAP_S = 0.05  # sound that jumps by more is placed anew; below it, jitter of timestamps
DEMUXERS = "mov,matroska,webm,avi,mpeg,mpegts,flv,asf,wav,mp3,flac,ogg,aac"
# a text in disguise (ffconcat, HLS) makes FFmpeg open other files: held by test_media.py
SAFE = {"protocol_whitelist": "file", "format_whitelist": DEMUXERS}
GUESSED = ("aac", "mp3")  # bare streams: their length is a guess by bit rate, and no promise


@dataclass(frozen=True, slots=True)
class Clock:
    """When each frame of a video is shown, frames that were lost included."""

    time_s: Float64[np.ndarray, "T"]
    rows: Int64[np.ndarray, "N"]
    """The row of each frame that decoded."""
    note: str | None = None
    """What is odd about it."""


@dataclass(frozen=True, slots=True)
class Sound:
    """Mono sound on the video's clock."""

    samples: Float32[np.ndarray, "S"]
    start_s: float
    """Presentation time of the first sample."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a container lists, without decoding."""

    n_frames: int
    """Video packets; each holds one frame."""
    mean_fps: float
    variable_rate: bool
    """Whether the time from frame to frame differs by more than the container's rounding."""
    has_sound: bool


def probe(path: Path) -> Probe:
    """What the container of a video lists; `MediaError` where it is no video."""
    with _opened(path) as container:
        stream = _video_stream(path, container)
        packets = [packet for packet in container.demux(stream) if packet.size]
        stamps = sorted(float(p.pts * p.time_base) for p in packets if p.pts is not None)
        rate = float(stream.average_rate or 0)
        has_sound = bool(container.streams.audio)
    steps = np.diff(stamps)
    jitter_s = 0.002  # containers round to a millisecond at the coarsest
    variable = len(steps) > 1 and float(steps.max() - steps.min()) > 2 * jitter_s
    return Probe(len(packets), rate, variable, has_sound)


def decoded_frames(path: Path, lost_s: list[float]) -> Iterator[av.VideoFrame]:
    """Every frame of a video in the order shown; `frame.time` is its presentation time or None.

    Puts into `lost_s`, at the end, the times of frames that did not decode though frames before
    and after them did: they are rows too, or all that follow would slip.
    Raises `MediaError` at the end when fewer than 95 % of the frames that the container promises
    decoded without damage: that is a broken file, not a short clip.
    """
    n_whole, n_damaged, last_s = 0, 0, 0.0
    listed_s: set[float] = set()
    decoded_s: set[float] = set()
    with _opened(path) as container:
        stream = _video_stream(path, container)
        stream.thread_type = "AUTO"
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None and not packet.is_discard:
                listed_s.add(float(packet.pts * packet.time_base))
            try:
                frames = stream.decode(packet)
            except av.error.InvalidDataError:
                n_damaged += 1
                continue
            for frame in frames:
                if frame.time is not None:
                    decoded_s.add(frame.time)
                if frame.is_corrupt:
                    n_damaged += 1
                else:
                    n_whole += 1
                last_s = max(last_s, frame.time or 0.0)
                yield frame
        promised, got, unit = stream.frames, float(n_whole), "frames"
        if not promised and stream.average_rate:  # no count in the container: go by its length
            promised, unit = _duration_s(container, stream), "seconds"
            got = (last_s + 1 / float(stream.average_rate)) * n_whole / max(1, n_whole + n_damaged)
    if n_whole == 0:
        raise MediaError(f"{path}: no frame decodes; replace the file", "no-frames")
    if got < WHOLE * promised:
        raise MediaError(
            f"{path}: {got:.6g} of the {promised:.6g} {unit} that the container promises decode, "
            f"fewer than {WHOLE:.0%}: the file is truncated or damaged; replace it",
            "incomplete",
        )
    if n_damaged and decoded_s:
        first_s, after_s = min(decoded_s), max(decoded_s)
        lost_s += sorted(t for t in listed_s - decoded_s if first_s < t < after_s)


def clock(
    stamps_s: Sequence[float | None],
    lost_s: Sequence[float],
    declared_fps: float | None,
    path: Path,
) -> Clock:
    """When each frame is shown: its own timestamp, as the container gives it.

    Where one is missing or does not increase, all are k / fps of the declared rate, else of the
    container's mean rate.
    """
    if None not in stamps_s:
        shown_s = np.array(stamps_s, dtype=np.float64)
        if np.all(np.diff(shown_s) > 0):
            time_s = np.sort(np.concatenate([shown_s, np.array(lost_s, dtype=np.float64)]))
            note = f"{len(lost_s)} frames lost to damage" if lost_s else None
            return Clock(time_s, np.searchsorted(time_s, shown_s), note)
    fps = declared_fps or probe(path).mean_fps
    if not fps:
        raise MediaError(
            f"{path}: timestamps are missing or fall back and no rate is known; "
            "declare one as `fps` in the manifest",
            "no-clock",
        )
    return constant_clock(len(stamps_s), fps, "timestamps unusable")


def constant_clock(n_frames: int, fps: float, why: str) -> Clock:
    """Frames at a constant rate from 0, with the reason why."""
    rows = np.arange(n_frames)
    return Clock(rows / fps, rows, f"{why}: constant rate of {fps:g} frames a second")


def frame_clock(path: Path, declared_fps: float | None) -> Clock:
    """When each frame of a video is shown; decodes all of it, which is what proves it whole."""
    lost_s: list[float] = []
    stamps_s = [frame.time for frame in decoded_frames(path, lost_s)]
    return clock(stamps_s, lost_s, declared_fps, path)


def pixels(frame: av.VideoFrame) -> UInt8[np.ndarray, "H W 3"]:
    """A decoded frame as RGB; `MediaError` where its format cannot be converted."""
    try:
        return frame.to_ndarray(format="rgb24", threads=1)  # pyright: ignore[reportCallIssue]
    except (av.error.FFmpegError, ValueError) as error:
        name = frame.format.name
        raise MediaError(f"a frame of format {name} has no RGB ({error})", "damaged") from None


def read_sound(path: Path, rate_hz: int) -> Sound | None:
    """The first sound track, mono at `rate_hz`, on the container's clock; None if there is none.

    A track without a packet is none, where the file itself reaches its end.

    Gaps in the track are silence of the same length; where its timestamps go back it goes on, as
    the pictures do. Raises `MediaError` where less than 95 % of
    the promised length is there, or more than 5 % of the packets are damaged.
    """
    runs: list[tuple[float, list[np.ndarray]]] = []
    n_packets, n_bytes, n_damaged, end_s = 0, 0, 0, 0.0
    with _opened(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        resampler = _resampler(rate_hz)
        expected_s, kind = None, None
        for packet in container.demux():
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is not stream:
                continue
            n_packets += 1
            n_bytes += packet.size
            try:
                frames = stream.decode(packet)
            except av.error.InvalidDataError:
                n_damaged += 1
                continue
            for frame in frames:
                time_s = frame.time if frame.time is not None else expected_s or 0.0
                before, kind = kind, (frame.format.name, frame.layout.name, frame.sample_rate)
                if expected_s is None or kind != before or time_s - expected_s > GAP_S:
                    if runs:  # broadcasts change from mono to stereo in the middle
                        runs[-1][1].extend(_samples(resampler, None))
                        resampler = _resampler(rate_hz)
                    runs.append((time_s, []))
                expected_s = time_s + frame.samples / frame.sample_rate
                frame.pts = None  # the resampler must not act on timestamps a second time
                runs[-1][1].extend(_samples(resampler, frame))
        if runs:
            runs[-1][1].extend(_samples(resampler, None))
        promises = container.format.name not in GUESSED
        own_s = float((stream.duration or 0) * (stream.time_base or 0)) * promises
        whole_s = (container.duration or 0) / av.time_base * promises
        is_listed_empty = not n_bytes and not stream.frames
    if is_listed_empty and end_s >= WHOLE * whole_s:
        return None  # a track without a packet, in a file that is whole
    sound = _on_one_clock(runs, rate_hz)
    if own_s:
        got_s, promised_s = len(sound.samples) / rate_hz, own_s
    else:  # no length of its own in the container: go by where the file ends
        got_s, promised_s = end_s, whole_s
    if got_s < WHOLE * promised_s or n_damaged > (1 - WHOLE) * n_packets:
        raise MediaError(
            f"{path}: {got_s:.2f} of the {promised_s:.2f} seconds of sound that the container "
            f"promises are there, {n_damaged} of {n_packets} packets damaged: the file is "
            "truncated or damaged; replace it",
            "incomplete",
        )
    return sound


@contextmanager
def _opened(path: Path) -> Iterator[av.container.InputContainer]:
    """An open container; every failure to read it is a `MediaError` in the decoder's words."""
    if not path.is_file():
        raise MediaError(f"{path}: there is no such file; correct the manifest", "missing")
    if path.stat().st_size == 0:
        raise MediaError(f"{path} is empty (0 bytes); replace the file", "empty")
    code: MediaCode = "not-media"
    try:
        with av.open(str(path), options=dict(SAFE)) as container:
            code = "damaged"
            yield container
    except (av.error.FFmpegError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, av.error.FFmpegError) else error
        raise MediaError(f"{path} cannot be decoded ({why}); replace the file", code) from None


def _video_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
    if not container.streams.video:
        raise MediaError(
            f"{path} has no picture; give a file with video, or face crops", "no-picture"
        )
    return container.streams.video[0]


def _duration_s(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return (container.duration or 0) / av.time_base


def _resampler(rate_hz: int) -> av.AudioResampler:
    return av.AudioResampler(format="flt", layout="mono", rate=rate_hz)


def _samples(resampler: av.AudioResampler, frame: av.AudioFrame | None) -> list[np.ndarray]:
    return [out.to_ndarray()[0] for out in resampler.resample(frame)]


def _on_one_clock(runs: list[tuple[float, list[np.ndarray]]], rate_hz: int) -> Sound:
    """Runs of samples with the time each begins, joined: silence between, the later one on top."""
    if not runs:
        return Sound(np.zeros(0, np.float32), 0.0)
    start_s = min(time_s for time_s, _ in runs)
    placed = [
        (round((time_s - start_s) * rate_hz), np.concatenate([*parts, np.zeros(0, np.float32)]))
        for time_s, parts in runs
    ]
    samples = np.zeros(max(at + len(run) for at, run in placed), np.float32)
    for at, run in placed:
        samples[at : at + len(run)] = run
    return Sound(samples, start_s)
