"""Labels brought to the rows of a clip, and predictions brought to the labels' own times.

The columns of the labels determine the rule. Labels without times are those of the rows themselves.
Ratings at times are interpolated linearly between two neighbours. If one of these is not valid, or
if they are apart by more than `GAP_STEPS` median steps and more than `GAP_S`, the row lies in a
gap: there, and before the first and after the last rating, a row has the value of the nearest
rating if that is valid and at most half a median step away, and is not valid otherwise. The value
of a span holds for the rows within it; a row in no span is not valid. A row that rounding puts just
before a boundary counts as at it.

Ratings and spans are moved earlier by the lag of their raters first.
"""

import numpy as np
from jaxtyping import Bool, Float, Float64

from features.manifest.labels import ROUNDING_S, Labels
from features.timeline import typical_step_s

GAP_STEPS = 3.0  # median steps between two ratings; tools that write irregular times stay below
GAP_S = 1.0  # feeling changes over seconds: nothing is lost between ratings that are closer


def labels_at_rows(labels: Labels, time_s: Float64[np.ndarray, "N"], start_s: float) -> Labels:
    """Return the labels with one row per row of the clip, by the rule of this module.

    `time_s` are the times of the rows on the clip's clock, `start_s` is that of its first frame.
    Labels without times must have one row per row: the caller pads or trims rows and times before.
    """
    if labels.is_per_frame:
        _check_length(labels, len(time_s))
        return labels
    at_s = time_s - start_s
    own_s = _own_times(labels, at_s)
    if labels.end_s is None:
        return _interpolate(labels, own_s, at_s)
    reached_s = at_s + ROUNDING_S
    span = np.searchsorted(own_s, reached_s, side="right") - 1  # the last one that has begun
    within = (span >= 0) & (reached_s < labels.end_s[span] - labels.lag_s)
    return _masked(labels.va[span], within & labels.valid[span])


def predictions_at_labels(
    labels: Labels,
    time_s: Float64[np.ndarray, "N"],
    va: Float[np.ndarray, "N 2"],
    start_s: float,
) -> tuple[Float64[np.ndarray, "L 2"], Bool[np.ndarray, "L"]]:
    """Return predictions at the labels' own times, and which of them to score.

    `va` holds a prediction for each row at `time_s`. At a rating, it is interpolated between rows;
    over a span, it is the mean of the rows within, or the value in the middle of a span that is
    shorter than a row. False marks labels that are not valid, or that lie more than half a row
    before the first or after the last row: their prediction is 0.
    """
    if labels.is_per_frame:
        _check_length(labels, len(time_s))
        return np.where(labels.valid[:, None], va, 0.0), labels.valid
    at_s = time_s - start_s
    own_s = _own_times(labels, at_s)
    if labels.end_s is None:
        middle_s, n_within = own_s, np.zeros(len(own_s), dtype=np.int64)
        means = np.zeros((len(own_s), 2))
    else:
        end_s = labels.end_s - labels.lag_s
        first, last = np.searchsorted(at_s + ROUNDING_S, [own_s, end_s])
        middle_s, n_within = (own_s + end_s) / 2, last - first
        sums = np.concatenate([np.zeros((1, 2)), np.cumsum(va, axis=0, dtype=np.float64)])
        means = (sums[last] - sums[first]) / np.maximum(n_within, 1)[:, None]
    between = np.stack([np.interp(middle_s, at_s, column) for column in va.T], axis=1)
    margin_s = typical_step_s(at_s) / 2 + ROUNDING_S
    reached = (middle_s >= at_s[0] - margin_s) & (middle_s <= at_s[-1] + margin_s)
    valid = labels.valid & (reached | (n_within > 0))
    values = np.where(n_within[:, None] > 0, means, between)
    return np.where(valid[:, None], values, 0.0), valid


def _check_length(labels: Labels, n_rows: int) -> None:
    if len(labels.va) != n_rows:
        raise ValueError(f"{len(labels.va)} labels without times for {n_rows} rows")


def _own_times(labels: Labels, at_s: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "L"]:
    """Return the times that the labels rate; those of the rows if they have none of their own."""
    if labels.time_s is None:
        _check_length(labels, len(at_s))
        return at_s - labels.lag_s
    return labels.time_s - labels.lag_s


def _interpolate(
    labels: Labels, own_s: Float64[np.ndarray, "L"], at_s: Float64[np.ndarray, "N"]
) -> Labels:
    step_s = typical_step_s(own_s)
    position = np.interp(at_s, own_s, np.arange(len(own_s), dtype=np.float64))  # (N,), clamped
    before = np.floor(position).astype(np.int64)
    after = np.ceil(position).astype(np.int64)
    weight = (position - before)[:, None]  # (N, 1) of `after`
    apart_s = own_s[after] - own_s[before]
    both = labels.valid[before] & labels.valid[after] & (apart_s <= max(GAP_STEPS * step_s, GAP_S))
    within = (at_s >= own_s[0]) & (at_s <= own_s[-1])
    nearest = np.where(at_s - own_s[before] <= own_s[after] - at_s, before, after)
    is_near = np.abs(at_s - own_s[nearest]) <= step_s / 2 + ROUNDING_S
    between = (1 - weight) * labels.va[before] + weight * labels.va[after]
    interpolated = within & both
    va = np.where(interpolated[:, None], between, labels.va[nearest])
    return _masked(va, interpolated | (is_near & labels.valid[nearest]))


def _masked(va: Float64[np.ndarray, "N 2"], valid: Bool[np.ndarray, "N"]) -> Labels:
    return Labels(np.where(valid[:, None], va, 0.0), valid)
