"""Decodes a file completely, in this process."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.media.audio import decoded_audio
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.media.sampling import Sampling
from features.media.tracks import find_tracks
from features.media.worker.requests import decode_video
from features.timeline import FrameTimes


@dataclass(frozen=True)
class Audio:
    samples: np.ndarray
    start_s: float


def collect(items: Iterable) -> tuple[list, Any]:
    """Copies of all items but the last, and the last."""
    *pieces, last = [deepcopy(item) for item in items]
    return pieces, last


def collect_frames(items: Iterable) -> tuple[list[np.ndarray], Any]:
    """The images of all pieces, and the record at the end."""
    pieces, last = collect(items)
    return [image for piece in pieces for image in piece], last


def collect_audio(items: Iterable) -> Audio | None:
    """All samples; None if there is no audio."""
    blocks, end = collect(items)
    if end.start_s is None:
        return None
    return Audio(np.concatenate([np.zeros(0, np.float32), *blocks]), end.start_s)


def read_audio(path: Path, rate_hz: int, limits: DecodeLimits = DEFAULT_LIMITS) -> Audio | None:
    return collect_audio(decoded_audio(find_tracks(path, limits), rate_hz))


def read_frame_times(
    path: Path, fps: float | None, limits: DecodeLimits = DEFAULT_LIMITS
) -> FrameTimes:
    [times] = decode_video(str(path), fps, None, None, limits=limits, n_threads=0)
    assert isinstance(times, FrameTimes)
    return times


def read_images(path: Path, limits: DecodeLimits = DEFAULT_LIMITS) -> list[np.ndarray]:
    """All frames, as RGB."""
    every = Sampling().model_dump(mode="json")
    return collect_frames(decode_video(str(path), None, every, None, limits=limits, n_threads=0))[0]
