"""One clip's media, piece by piece: what a process that decodes is asked for.

Each function takes JSON values, limits and a number of threads, and raises `MediaError`. Where it
yields, it yields pieces that fit a slot of memory; what it returns is a record or a JSON value.
"""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float64, Int64, UInt8

from features.canonical_json import JsonObject
from features.media.audio import AudioTap, Block, audio_blocks
from features.media.crops import read_image
from features.media.limits import DecodeLimits
from features.media.sampling import Sampling
from features.media.video import Probe, decoded_frames, frame_times, probe, to_rgb
from features.timeline import FrameTimes

PIECE_FRAMES = 64
FIRST_FRAMES = 8  # of a clip's first piece; each may be twice the one before: waits are short
PIECE_BYTES = 16 * 2**20  # some 360p frames, or two of 1080p: they stay near the processor
CHANNELS = 3
STEP_S = 0.04  # between frames without timestamps and without a declared rate: 25 a second

Image = UInt8[np.ndarray, "_ _ 3"]
Piece = Image | Block
Numbered = tuple[int, av.VideoFrame]


def slot_bytes(limits: DecodeLimits) -> int:
    """What a slot must hold: a piece, and if need be the largest picture."""
    return max(PIECE_BYTES, CHANNELS * limits.pixels)


@dataclass(frozen=True, slots=True)
class VideoTimeline:
    """The clock of a video, and what became of the sound that was to be read along."""

    time_s: Float64[np.ndarray, "T"]
    rows: Int64[np.ndarray, "N"]
    note: str | None
    heard: bool
    """False where the sound was not asked for, or could not be read along: it is read alone."""
    start_s: float | None
    """Presentation time of the first sample; None where there is no sound."""

    def clock(self) -> FrameTimes:
        """When each frame is shown, and the row of each picture."""
        return FrameTimes(self.time_s, self.rows, self.note)


def video_frames(
    path: str,
    fps: float | None,
    sampling: JsonObject,
    rate_hz: int | None = None,
    *,
    limits: DecodeLimits,
    n_threads: int,
) -> Generator[list[Piece], None, VideoTimeline]:
    """Yield the undamaged frames of a video that are to be looked at; return the clock of all.

    With `rate_hz` the blocks of its sound come between the pictures, each as a piece of its own.
    """
    stamps_s: list[float | None] = []
    taken: list[int] = []
    lost_s: list[float] = []
    along = AudioTap(Path(path), rate_hz, limits) if rate_hz else None
    beside = along.beside if along else None
    frames = _timed(decoded_frames(Path(path), lost_s, limits, n_threads, beside), stamps_s, fps)
    chosen = Sampling.model_validate(sampling).taken(frames)
    for piece in pieces(_undamaged_rgb(chosen, taken)):
        yield piece
        if along:
            yield from along.blocks()
    times = frame_times(stamps_s, lost_s, fps, Path(path))
    heard, start_s = False, None
    if along:
        heard, start_s = along.end()
        yield from along.blocks()
    return VideoTimeline(times.time_s, times.rows[taken], times.note, heard, start_s)


def video_clock(
    path: str,
    fps: float | None,
    rate_hz: int | None = None,
    *,
    limits: DecodeLimits,
    n_threads: int,
) -> Generator[list[Block], None, VideoTimeline]:
    """Yield the sound of a video, where `rate_hz` asks for it; return when each frame is shown.

    Decodes all frames, which is what proves the file whole.
    """
    stamps_s: list[float | None] = []
    lost_s: list[float] = []
    along = AudioTap(Path(path), rate_hz, limits) if rate_hz else None
    beside = along.beside if along else None
    for frame in decoded_frames(Path(path), lost_s, limits, n_threads, beside):
        stamps_s.append(frame.time)
        if along:
            yield from along.blocks()
    times = frame_times(stamps_s, lost_s, fps, Path(path))
    heard, start_s = along.end() if along else (False, None)
    if along:
        yield from along.blocks()
    return VideoTimeline(times.time_s, times.rows, times.note, heard, start_s)


def video_probe(path: str, *, limits: DecodeLimits, n_threads: int) -> Probe:
    """What a container lists, without decoding."""
    return probe(Path(path), limits)


def crop_images(
    paths: list[str], *, limits: DecodeLimits, n_threads: int
) -> Generator[list[Image], None, None]:
    """Yield the pictures of these files, in order."""
    yield from pieces(read_image(Path(path), limits) for path in paths)


def audio_samples(
    path: str, rate_hz: int, *, limits: DecodeLimits, n_threads: int
) -> Generator[list[Block], None, float | None]:
    """Yield the sound's samples; return the time of the first, None where there is no sound."""
    blocks = audio_blocks(Path(path), rate_hz, limits)
    while True:
        try:
            yield [next(blocks)]
        except StopIteration as end:
            return end.value


def pieces(pictures: Iterable[Image]) -> Iterator[list[Image]]:
    """The pictures in lists of at most `PIECE_FRAMES` and `PIECE_BYTES`, or of one larger one.

    The first lists are shorter.
    """
    piece: list[Image] = []
    n_bytes, most = 0, FIRST_FRAMES
    for picture in pictures:
        if piece and (len(piece) == most or n_bytes + picture.nbytes > PIECE_BYTES):
            yield piece
            piece, n_bytes, most = [], 0, min(2 * most, PIECE_FRAMES)
        piece.append(picture)
        n_bytes += picture.nbytes
    if piece:
        yield piece


def _timed(
    frames: Iterable[av.VideoFrame], stamps_s: list[float | None], fps: float | None
) -> Iterator[tuple[Numbered, float]]:
    """Each frame with its number and time; its timestamp is put aside.

    A frame without a timestamp lies a step after the one before it.
    """
    time_s = 0.0
    for index, frame in enumerate(frames):
        stamps_s.append(frame.time)
        if frame.time is not None:
            time_s = frame.time
        elif index:
            time_s += 1 / fps if fps else STEP_S
        yield (index, frame), time_s


def _undamaged_rgb(frames: Iterable[Numbered], taken: list[int]) -> Iterator[Image]:
    """The pixels of undamaged frames; the number of each is put aside."""
    for index, frame in frames:
        if not frame.is_corrupt:
            taken.append(index)
            yield to_rgb(frame)
