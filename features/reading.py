"""One clip's media, piece by piece: what a process that decodes is asked for.

Each function takes JSON values, limits and a number of threads, and raises `MediaError`. Where it
yields, it yields pieces that fit a slot of memory; what it returns is a record or a JSON value.
"""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float32, UInt8

from features.crops import read_picture
from features.limits import DecodeLimits
from features.media import Clock, Probe, clock, decoded_frames, frame_clock, pixels, probe
from features.sound import read_sound

PIECE_PICTURES = 64
PIECE_BYTES = 16 * 2**20  # some 360p frames, or two of 1080p: they stay near the processor
CHANNELS = 3

Picture = UInt8[np.ndarray, "_ _ 3"]


def slot_bytes(limits: DecodeLimits) -> int:
    """What a slot must hold: a piece, and if need be the largest picture."""
    return max(PIECE_BYTES, CHANNELS * limits.pixels)


def video_pictures(
    path: str, fps: float | None, *, limits: DecodeLimits, n_threads: int
) -> Generator[list[Picture], None, Clock]:
    """Yield the undamaged frames of a video; return the clock of all, with the row of each."""
    stamps_s: list[float | None] = []
    whole: list[int] = []
    lost_s: list[float] = []
    frames = decoded_frames(Path(path), lost_s, limits, n_threads)
    yield from pieces(_kept(frames, stamps_s, whole))
    times = clock(stamps_s, lost_s, fps, Path(path))
    return replace(times, rows=times.rows[whole])


def video_clock(path: str, fps: float | None, *, limits: DecodeLimits, n_threads: int) -> Clock:
    """When each frame of a video is shown; decodes all of it."""
    return frame_clock(Path(path), fps, limits, n_threads)


def video_probe(path: str, *, limits: DecodeLimits, n_threads: int) -> Probe:
    """What a container lists, without decoding."""
    return probe(Path(path), limits)


def crop_pictures(
    paths: list[str], *, limits: DecodeLimits, n_threads: int
) -> Generator[list[Picture], None, None]:
    """Yield the pictures of these files, in order."""
    yield from pieces(read_picture(Path(path), limits) for path in paths)


def sound_samples(
    path: str, rate_hz: int, *, limits: DecodeLimits, n_threads: int
) -> Generator[list[Float32[np.ndarray, "_"]], None, float | None]:
    """Yield the sound's samples; return the time of the first, None where there is no sound."""
    sound = read_sound(Path(path), rate_hz, limits)
    if sound is None:
        return None
    size = PIECE_BYTES // sound.samples.itemsize
    for at in range(0, len(sound.samples), size):
        yield [sound.samples[at : at + size]]
    return sound.start_s


def pieces(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """The pictures in lists of at most `PIECE_PICTURES` and `PIECE_BYTES`, or of one larger one."""
    piece: list[Picture] = []
    n_bytes = 0
    for picture in pictures:
        if piece and (len(piece) == PIECE_PICTURES or n_bytes + picture.nbytes > PIECE_BYTES):
            yield piece
            piece, n_bytes = [], 0
        piece.append(picture)
        n_bytes += picture.nbytes
    if piece:
        yield piece


def _kept(
    frames: Iterable[av.VideoFrame], stamps_s: list[float | None], whole: list[int]
) -> Iterator[Picture]:
    """The pixels of undamaged frames; each frame's timestamp, and which are whole, put aside."""
    for frame in frames:
        stamps_s.append(frame.time)
        if not frame.is_corrupt:
            whole.append(len(stamps_s) - 1)
            yield pixels(frame)
