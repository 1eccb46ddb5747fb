"""Times of rows and frames: extension beyond the last frame, and constant rates."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field

MAX_LENGTH_MISMATCH = 3  # in Aff-Wild2 rows minus frames is from -3 to +2; else the video is wrong
LengthMismatch = Annotated[int, Field(ge=0)]  # the allowed difference
LONE_FRAME_S = 0.04  # the step after a single frame: 25 fps


def extend_times(time_s: Float64[np.ndarray, "T"], n_more: int) -> Float64[np.ndarray, "_"]:
    """The times, followed by `n_more` at the median step."""
    return np.concatenate([time_s, time_s[-1] + typical_step_s(time_s) * np.arange(1, n_more + 1)])


def typical_step_s(time_s: Float64[np.ndarray, "T"]) -> float:
    """The median step between rows in seconds."""
    return float(np.median(np.diff(time_s))) if len(time_s) > 1 else LONE_FRAME_S


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """The presentation time of each frame of a video, including frames that did not decode."""

    time_s: Float64[np.ndarray, "T"]
    rows: Int64[np.ndarray, "N"]
    """The index in `time_s` of each frame that decoded."""
    note: str | None = None
    """What is unusual about the times, in words."""


def constant_frame_times(n_frames: int, fps: float, why: str) -> FrameTimes:
    """Times of frames at a constant rate from 0; `why` goes into the note."""
    rows = np.arange(n_frames)
    return FrameTimes(rows / fps, rows, f"{why}: constant rate of {fps:g} frames a second")
