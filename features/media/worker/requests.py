"""The requests that a decoding process serves.

A request takes JSON values, the limits and a number of threads, and raises `MediaError`. It yields
pieces (lists of arrays that fit a slot of shared memory) and records (dataclasses).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import av
import numpy as np

from features.canonical_json import JsonObject
from features.media.audio import AudioEnd, AudioTap, Block, decoded_audio
from features.media.crops import read_image
from features.media.limits import DecodeLimits
from features.media.sampling import Sampling
from features.media.video import Image, Probe, decoded_frames, frame_times, probe, to_rgb
from features.timeline import FrameTimes

PIECE_FRAMES = 64
FIRST_FRAMES = 8  # of a clip's first piece; each next one has up to twice as many: a short wait
PIECE_BYTES = 16 * 2**20  # 24 frames of 360p, 2 of 1080p: they stay in the processor's cache
CHANNELS = 3
DEFAULT_STEP_S = 0.04  # between frames without timestamps and without a declared rate: 25 fps

Record = AudioEnd | FrameTimes | Probe
Request = Callable[..., Iterator[list[np.ndarray] | Record]]
Numbered = tuple[int, av.VideoFrame]


def slot_bytes(limits: DecodeLimits) -> int:
    """The size of a slot of shared memory: a piece, or the largest image if that is larger."""
    return max(PIECE_BYTES, CHANNELS * limits.pixels)


def decode_video(
    path: str,
    fps: float | None,
    sampling: JsonObject | None,
    audio_rate_hz: int | None,
    *,
    limits: DecodeLimits,
    n_threads: int,
) -> Iterator[list[Image] | list[Block] | AudioEnd | FrameTimes]:
    """Yield the undamaged frames that are sampled, and at the end the times of all frames.

    Without a sampling no frame is yielded; all are decoded, to check the file. With
    `audio_rate_hz`, blocks of audio come in between, and an `AudioEnd` if the audio is complete.
    """
    stamps_s: list[float | None] = []
    lost_s: list[float] = []
    indices: list[int] = []
    tap = AudioTap(Path(path), audio_rate_hz, limits)
    frames = decoded_frames(Path(path), lost_s, limits, n_threads, tap.packet_tap)
    timed = _with_times(frames, stamps_s, fps)
    if sampling is None:
        images: Iterator[list[Image]] = ([] for _ in timed)
    else:
        sampled = Sampling.model_validate(sampling).select(timed)
        images = pieces(_undamaged_rgb(sampled, indices))
    for piece in images:
        if piece:
            yield piece
        yield from ([block] for block in tap.take_blocks())
    times = frame_times(stamps_s, lost_s, fps, Path(path))
    yield from ([block] for block in tap.take_blocks())
    if tap.end:
        yield tap.end
    rows = times.rows if sampling is None else times.rows[indices]
    yield FrameTimes(times.time_s, rows, times.note)


def probe_video(path: str, *, limits: DecodeLimits, n_threads: int) -> Iterator[Probe]:
    """Yield what a container lists, without decoding."""
    yield probe(Path(path), limits)


def read_crops(paths: list[str], *, limits: DecodeLimits, n_threads: int) -> Iterator[list[Image]]:
    """Yield the images of these files, in order."""
    yield from pieces(read_image(Path(path), limits) for path in paths)


def decode_audio(
    path: str, rate_hz: int, *, limits: DecodeLimits, n_threads: int
) -> Iterator[list[Block] | AudioEnd]:
    """Yield the samples of the audio, then its end."""
    for item in decoded_audio(Path(path), rate_hz, limits):
        yield item if isinstance(item, AudioEnd) else [item]


REQUESTS: Mapping[str, Request] = {
    "decode_video": decode_video,
    "decode_audio": decode_audio,
    "read_crops": read_crops,
    "probe_video": probe_video,
}
RECORDS: Mapping[str, type[Record]] = {
    record.__name__: record for record in (AudioEnd, FrameTimes, Probe)
}


def pieces(images: Iterable[Image]) -> Iterator[list[Image]]:
    """Group images into lists of at most `PIECE_FRAMES` and `PIECE_BYTES`, or of one larger image.

    The first lists are shorter, so that the encoder starts early.
    """
    piece: list[Image] = []
    n_bytes, max_frames = 0, FIRST_FRAMES
    for image in images:
        if piece and (len(piece) == max_frames or n_bytes + image.nbytes > PIECE_BYTES):
            yield piece
            piece, n_bytes, max_frames = [], 0, min(2 * max_frames, PIECE_FRAMES)
        piece.append(image)
        n_bytes += image.nbytes
    if piece:
        yield piece


def _with_times(
    frames: Iterable[av.VideoFrame], stamps_s: list[float | None], fps: float | None
) -> Iterator[tuple[Numbered, float]]:
    """Yield each frame with its index and its time; append its timestamp to `stamps_s`.

    A frame without a timestamp is one step later than the frame before it.
    """
    time_s = 0.0
    for index, frame in enumerate(frames):
        stamps_s.append(frame.time)
        if frame.time is not None:
            time_s = frame.time
        elif index:
            time_s += 1 / fps if fps else DEFAULT_STEP_S
        yield (index, frame), time_s


def _undamaged_rgb(frames: Iterable[Numbered], indices: list[int]) -> Iterator[Image]:
    """Yield the pixels of each undamaged frame; append its index to `indices`."""
    for index, frame in frames:
        if not frame.is_corrupt:
            indices.append(index)
            yield to_rgb(frame)
