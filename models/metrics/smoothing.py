"""Predictions smoothed over time within each clip, and the choice of the best widths (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
from jaxtyping import Float64

from models.data.packed import PackedFeatures
from models.data.windows import ROUNDING_S
from models.metrics.ccc import VaConcordance
from models.metrics.predict import Prediction, concordance

WINDOWS_S = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""The candidates, from no smoothing to slower than any change of a face."""


@dataclass(frozen=True, slots=True)
class SmoothingWindows:
    """Spans of the moving mean in seconds; 0 smooths nothing."""

    valence: float = 0.0
    arousal: float = 0.0


def moving_mean(
    values: Float64[np.ndarray, "T"],
    time_s: Float64[np.ndarray, "T"],
    width_s: float,
    *,
    trailing: bool = False,
) -> Float64[np.ndarray, "T"]:
    """Return the mean of the rows at most half the width before or after each row.

    With `trailing` it is of the rows at most the width before each row, and of the row itself.
    Times must increase; near the ends of a clip the mean is over fewer rows.
    """
    before_s, after_s = (width_s, 0.0) if trailing else (width_s / 2, width_s / 2)
    first = np.searchsorted(time_s, time_s - (before_s + ROUNDING_S), side="left")
    stop = np.searchsorted(time_s, time_s + (after_s + ROUNDING_S), side="right")
    total = np.concatenate([[0.0], np.cumsum(values)])
    return (total[stop] - total[first]) / (stop - first)


def smooth(prediction: Prediction, packed: PackedFeatures, widths: SmoothingWindows) -> Prediction:
    """Return the prediction with each dimension averaged over its width, within each clip."""
    if widths == SmoothingWindows():
        return prediction
    va = prediction.va.copy()
    for column, width_s in enumerate((widths.valence, widths.arousal)):
        if width_s:
            for _, span in packed.spans():
                mean = moving_mean(prediction.va[span, column], packed.time_s[span], width_s)
                va[span, column] = np.clip(mean, -1, 1)  # rounding may exceed the range
    return replace(prediction, va=va)


def sums_by_window(prediction: Prediction, packed: PackedFeatures) -> dict[float, VaConcordance]:
    """Return the sums over all annotated rows, at each of `WINDOWS_S`."""
    return {
        width_s: concordance(smooth(prediction, packed, SmoothingWindows(width_s, width_s)), packed)
        for width_s in WINDOWS_S
    }


def added(parts: Sequence[Mapping[float, VaConcordance]]) -> dict[float, VaConcordance]:
    """Return the sums of several parts together, at each width."""
    return {width_s: reduce(add, [sums[width_s] for sums in parts]) for width_s in WINDOWS_S}


def choose_windows(sums: Mapping[float, VaConcordance]) -> SmoothingWindows:
    """Return the width with the highest CCC for each dimension, the smallest of equals.

    The sums must not include rows that the widths are then scored on.
    """
    scores = {width_s: sums[width_s].ccc() for width_s in sorted(sums)}
    valence, arousal = (max(scores, key=lambda width_s: scores[width_s][k]) for k in range(2))
    return SmoothingWindows(valence, arousal)
