"""What the reading of media gives, all at once."""

from collections.abc import Generator
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.media.audio import audio_blocks
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.media.worker.requests import video_clock
from features.timeline import FrameTimes


@dataclass(frozen=True)
class Sound:
    samples: np.ndarray
    start_s: float


def drained(pieces: Generator) -> tuple[list, Any]:
    """Copies of what a generator yields, and what it returns."""
    found = []
    while True:
        try:
            found.append(copy(next(pieces)))
        except StopIteration as end:
            return found, end.value


def sound_of(pieces: Generator[np.ndarray, None, float | None]) -> Sound | None:
    blocks, start_s = drained(pieces)
    if start_s is None:
        return None
    return Sound(np.concatenate([np.zeros(0, np.float32), *blocks]), start_s)


def read_sound(path: Path, rate_hz: int, limits: DecodeLimits = DEFAULT_LIMITS) -> Sound | None:
    return sound_of(audio_blocks(path, rate_hz, limits))


def frame_clock(path: Path, fps: float | None, limits: DecodeLimits = DEFAULT_LIMITS) -> FrameTimes:
    _, watched = drained(video_clock(str(path), fps, limits=limits, n_threads=0))
    return watched.clock()
