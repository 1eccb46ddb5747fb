"""Cuts: frames whose colours are distributed differently from those of the frame before."""

from typing import Annotated

import numpy as np
from jaxtyping import Float64, UInt8
from pydantic import Field

from features.config import Config

BINS = 16  # of each channel
GRID = 2  # parts of the image in each direction, each with a histogram
SAMPLES_PX = 64  # points of the image in each direction that are counted

Histogram = Float64[np.ndarray, "N"]


class CutConfig(Config):
    """When two frames belong to different shots."""

    max_difference: Annotated[float, Field(ge=0, le=1)] = 0.25
    """A cut is where histograms differ by more: 0 if they are equal, 1 if nothing is in common."""


class CutDetector:
    """Compares each frame with the frame before it."""

    def __init__(self, config: CutConfig) -> None:
        self._config = config
        self._last: Histogram | None = None

    def is_cut(self, image: UInt8[np.ndarray, "H W 3"]) -> bool:
        """Whether a shot begins with this frame; False for the first."""
        now, before = histogram(image), self._last
        self._last = now
        return before is not None and difference(before, now) > self._config.max_difference


def histogram(image: UInt8[np.ndarray, "H W 3"]) -> Histogram:
    """The share of each colour, by channel and part of the image; the sum is 1."""
    height, width, n_channels = image.shape
    rows = np.linspace(0, height - 1, SAMPLES_PX).astype(int)
    columns = np.linspace(0, width - 1, SAMPLES_PX).astype(int)
    bins = image[np.ix_(rows, columns)] // (256 // BINS)
    part = np.arange(SAMPLES_PX) * GRID // SAMPLES_PX
    cell = (part[:, None] * GRID + part)[..., None] * n_channels + np.arange(n_channels)
    counts = np.bincount((cell * BINS + bins).ravel(), minlength=GRID**2 * n_channels * BINS)
    return counts / counts.sum()


def difference(first: Histogram, second: Histogram) -> float:
    """Half the sum of absolute differences: 0 to 1."""
    return float(np.abs(first - second).sum() / 2)
