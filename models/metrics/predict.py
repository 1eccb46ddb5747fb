"""Predictions of every row of packed features, by the official protocol."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from models.data.batches import batches
from models.data.packed import PackedFeatures
from models.data.windows import Windows
from models.heads.base import Head
from models.metrics.ccc import Concordance, VaConcordance

ROWS_AT_ONCE = 16384  # bounds the memory of a batch: about 70 MB a layer at width 256


@dataclass(frozen=True, slots=True)
class RegionPosterior:
    """Region probabilities of every row."""

    posterior: Float64[np.ndarray, "N R"]
    """Sums to 1; 0 where not valid."""
    valid: Bool[np.ndarray, "N"]
    """False if the row has no valid features of the stream that the texts are compared with."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """V and A of every packed row."""

    va: Float64[np.ndarray, "N 2"]
    """In [-1, 1]."""
    interpolated: Bool[np.ndarray, "N"]
    """Rows without a valid visual stream, whose values come from the clip's neighbouring rows."""
    regions: RegionPosterior | None = None
    """None if they were not asked for, or the head has no region branch."""
    band: Float64[np.ndarray, "2 N 2"] | None = None
    """Lowest and highest V and A of the members of an ensemble; None if not asked for."""


def predict(
    head: Head, packed: PackedFeatures, windows: Windows, *, regions: bool = False
) -> Prediction:
    """Return the head's V and A: means of overlapping windows, clamped, gaps filled per clip.

    With `regions`, the same pass also computes the region posteriors.
    """
    merged, posterior = _merged(head, packed, windows, regions)
    seen = packed.seen.cpu().numpy()
    return interpolate_unseen(np.clip(merged, -1, 1), seen, packed, posterior)


def mean_prediction(predictions: Sequence[Prediction]) -> Prediction:
    """Return the mean of several predictions of the same rows."""
    va = np.mean([each.va for each in predictions], axis=0)
    return Prediction(va, predictions[0].interpolated)


def end_to_end(predictions: Sequence[Prediction]) -> Prediction:
    """Return the concatenated predictions of consecutive parts."""
    return Prediction(
        np.concatenate([each.va for each in predictions]),
        np.concatenate([each.interpolated for each in predictions]),
    )


@torch.inference_mode()
def _merged(
    head: Head, packed: PackedFeatures, windows: Windows, regions: bool
) -> tuple[Float64[np.ndarray, "N 2"], RegionPosterior | None]:
    """Mean V and A, and mean region probabilities, of the windows that predict each row.

    The region branch runs only if V and A depend on it, or `regions` asks for it. The prompts are
    encoded at most once, and results stay on the device until all batches are done.
    """
    head.eval()
    prototypes = head.prototypes() if regions or head.reads_regions else None
    predicted, index, real = [], [], []
    probabilities, valid = [], []
    batch_size = max(1, ROWS_AT_ONCE // windows.size)
    for chosen in batches(np.arange(len(windows)), batch_size):
        batch, _ = packed.gather(windows, chosen)
        output = head(batch, prototypes)
        rows = windows.predicted(chosen)
        predicted.append(output.va.flatten(0, 1))  # (B * P, 2)
        index.append(rows.index.ravel())
        real.append(rows.real.ravel())
        if regions and output.regions is not None:
            probabilities.append(output.regions.logits.double().softmax(dim=-1).flatten(0, 1))
            valid.append((rows.real & output.regions.valid.cpu().numpy()).ravel())
    n_rows = len(packed.time_s)
    total, count = sum_by_row(predicted, index, real, n_rows)
    if not probabilities:
        return total / count, None
    shares, n_valid = sum_by_row(probabilities, index, valid, n_rows)
    return total / count, RegionPosterior(shares / np.maximum(n_valid, 1), n_valid[:, 0] > 0)


def sum_by_row(
    values: Sequence[Float[Tensor, "_ K"]],
    index: Sequence[Int64[np.ndarray, "_"]],
    real: Sequence[Bool[np.ndarray, "_"]],
    n_rows: int,
) -> tuple[Float64[np.ndarray, "N K"], Float64[np.ndarray, "N 1"]]:
    """Return the sum and the number of values of each row, over the real rows of all batches.

    `values` has a tensor for each batch; `index` names the row of each value.
    """
    kept = np.concatenate(real)
    rows = np.concatenate(index)[kept]
    columns = torch.cat(list(values)).double().cpu().numpy()[kept].T  # (K, M)
    # adds in the same order as np.add.at, and faster
    total = [np.bincount(rows, column, minlength=n_rows) for column in columns]
    count = np.bincount(rows, minlength=n_rows).astype(np.float64)
    return np.stack(total, axis=1), count[:, None]


def interpolate_unseen(
    va: Float64[np.ndarray, "N 2"],
    seen: Bool[np.ndarray, "N"],
    packed: PackedFeatures,
    regions: RegionPosterior | None = None,
) -> Prediction:
    """Return V and A, changed in place: unseen rows are interpolated as `fill_gaps` does."""
    interpolated = np.zeros(len(va), dtype=bool)
    for _, span in packed.spans():
        va[span] = fill_gaps(va[span], seen[span], packed.time_s[span])
        interpolated[span] = ~seen[span] & seen[span].any()
    return Prediction(va, interpolated, regions)


def fill_gaps(
    va: Float64[np.ndarray, "T 2"], seen: Bool[np.ndarray, "T"], time_s: Float64[np.ndarray, "T"]
) -> Float64[np.ndarray, "T 2"]:
    """Return V and A with unseen rows interpolated in time between seen ones.

    The ends repeat the nearest seen row. If no row is seen, the values, which were then predicted
    from the audio, are returned unchanged.
    """
    if seen.all() or not seen.any():
        return va
    columns = [np.interp(time_s, time_s[seen], column[seen]) for column in va.T]
    return np.stack(columns, axis=1)


def concordance(
    prediction: Prediction, packed: PackedFeatures, span: slice = slice(None)
) -> VaConcordance:
    """Return the sums over the labels of a span: of all rows, or of the rows of a clip."""
    truth, predicted = at_labels(prediction, packed, span)
    return VaConcordance(*(Concordance.of(truth[:, k], predicted[:, k]) for k in range(2)))


def at_labels(
    prediction: Prediction, packed: PackedFeatures, span: slice = slice(None)
) -> tuple[Float64[np.ndarray, "L 2"], Float64[np.ndarray, "L 2"]]:
    """Return the labels of a span, and the predictions at their times.

    That is on the annotated rows, or at the times of labels that have their own.
    """
    annotated = packed.va_valid.cpu().numpy()
    truth, predicted = packed.va.cpu().numpy(), prediction.va
    if not packed.at_labels:
        annotated = annotated[span]
        return truth[span][annotated], predicted[span][annotated]
    start, stop, _ = span.indices(len(annotated))
    parts = [(np.zeros((0, 2)), np.zeros((0, 2)))]
    for clip_id, rows in packed.spans():
        if rows.start < start or rows.stop > stop:
            continue
        if own := packed.at_labels.get(clip_id):
            parts.append(own(packed.time_s[rows], predicted[rows]))
        else:
            parts.append((truth[rows][annotated[rows]], predicted[rows][annotated[rows]]))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
