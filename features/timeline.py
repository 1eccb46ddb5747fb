"""Where rows lie in time beyond the last frame, and how many of them there may be (pure)."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field

MAX_LENGTH_MISMATCH = 3  # rows minus frames in Aff-Wild2 runs from -3 to +2; more is another video
LengthMismatch = Annotated[int, Field(ge=0)]  # how many are allowed
LONE_FRAME_S = 0.04  # step after a single frame, where there is no other to measure by: 25 fps


def extend_times(time_s: Float64[np.ndarray, "T"], n_more: int) -> Float64[np.ndarray, "_"]:
    """The times with `n_more` behind the last, the median step apart."""
    return np.concatenate([time_s, time_s[-1] + typical_step_s(time_s) * np.arange(1, n_more + 1)])


def typical_step_s(time_s: Float64[np.ndarray, "T"]) -> float:
    """The median time from row to row."""
    return float(np.median(np.diff(time_s))) if len(time_s) > 1 else LONE_FRAME_S


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """When each frame of a video is shown, frames that were lost included."""

    time_s: Float64[np.ndarray, "T"]
    rows: Int64[np.ndarray, "N"]
    """The row of each frame that decoded."""
    note: str | None = None
    """What is odd about it."""


def constant_frame_times(n_frames: int, fps: float, why: str) -> FrameTimes:
    """Frames at a constant rate from 0, with the reason why."""
    rows = np.arange(n_frames)
    return FrameTimes(rows / fps, rows, f"{why}: constant rate of {fps:g} frames a second")
