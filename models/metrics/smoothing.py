"""Predictions smoothed over time within each clip, and the widths that are best for it (pure)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from jaxtyping import Float64

from models.data.packed import PackedFeatures
from models.data.windows import ROUNDING_S
from models.metrics.ccc import Concordance, VaConcordance
from models.metrics.predict import Prediction, concordance

WINDOWS_S = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""The candidates, from no smoothing to slower than any change of a face."""


@dataclass(frozen=True, slots=True)
class SmoothingWindows:
    """Spans of the moving mean in seconds; 0 smooths nothing."""

    valence: float = 0.0
    arousal: float = 0.0


def moving_mean(
    values: Float64[np.ndarray, "T"], time_s: Float64[np.ndarray, "T"], width_s: float
) -> Float64[np.ndarray, "T"]:
    """The mean of the rows at most half the width before or after each row.

    Rows are found by their times, which increase; at the ends of a clip there are fewer.
    """
    half_s = width_s / 2 + ROUNDING_S
    first = np.searchsorted(time_s, time_s - half_s, side="left")
    stop = np.searchsorted(time_s, time_s + half_s, side="right")
    total = np.concatenate([[0.0], np.cumsum(values)])
    return (total[stop] - total[first]) / (stop - first)


def smooth(prediction: Prediction, bank: PackedFeatures, widths: SmoothingWindows) -> Prediction:
    """The prediction with each dimension averaged over its width; no row tells of another clip."""
    va = prediction.va.copy()
    for column, width_s in enumerate((widths.valence, widths.arousal)):
        if width_s:
            for _, span in bank.spans():
                mean = moving_mean(prediction.va[span, column], bank.time_s[span], width_s)
                va[span, column] = np.clip(mean, -1, 1)  # sums leave a last digit beyond
    return Prediction(va, prediction.interpolated)


def sums_by_window(prediction: Prediction, bank: PackedFeatures) -> dict[float, VaConcordance]:
    """The sums over all annotated rows, at each of `WINDOWS_S`."""
    return {
        width_s: concordance(smooth(prediction, bank, SmoothingWindows(width_s, width_s)), bank)
        for width_s in WINDOWS_S
    }


def added(parts: Sequence[Mapping[float, VaConcordance]]) -> dict[float, VaConcordance]:
    """The sums of several banks together, at each width."""
    return {width_s: reduce(add, [sums[width_s] for sums in parts]) for width_s in WINDOWS_S}


def choose_windows(sums: Mapping[float, VaConcordance]) -> SmoothingWindows:
    """For each dimension the width of the highest CCC, the smallest of equals.

    The sums must not be of rows that the widths are then scored on.
    """

    def best(dimension: Callable[[VaConcordance], Concordance]) -> float:
        return max(sorted(sums), key=lambda width_s: dimension(sums[width_s]).ccc())

    return SmoothingWindows(best(lambda both: both.valence), best(lambda both: both.arousal))
