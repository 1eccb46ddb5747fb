"""Where the errors of a split are: by subject, by region of the truth, and over the V/A plane."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from models.data.packed import PackedFeatures
from models.metrics.ccc import Concordance, VaConcordance
from models.metrics.predict import Prediction, at_labels
from models.regions.grid import Grid
from models.regions.soft_labels import region_index
from models.report.region_report import region_names

Points = Float64[np.ndarray, "N 2"]
SUBJECT = "subject "  # what `subject_by_clip` puts before a name
CELLS = 8  # per axis of the plane, for an arrow each
CELL = 2 / CELLS


@dataclass(frozen=True, slots=True)
class GroupError:
    """The errors of some annotated frames. Pairs are of valence and of arousal."""

    name: str
    n_frames: int
    rmse: tuple[float, float]
    bias: tuple[float, float]
    """Mean of prediction minus truth."""
    rmse_constant: tuple[float, float]
    """The error of the best constant of the split, which is the mean of its labels."""
    ccc: tuple[float, float] | None = None
    """Of a subject; of frames in one region, where the truth hardly varies, it would say little."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """From the mean truth to the mean prediction of the frames whose truth is in one cell."""

    truth: tuple[float, float]
    predicted: tuple[float, float]
    n_frames: int


def errors_by_subject(
    prediction: Prediction,
    packed: PackedFeatures,
    subject_by_clip: Mapping[str, str],
    mean_truth: tuple[float, float],
) -> tuple[GroupError, ...]:
    """Return the errors of each subject with labels, the largest first."""
    parts: dict[str, list[tuple[Points, Points]]] = {}
    for clip, span in packed.spans():
        part = at_labels(prediction, packed, span)
        if len(part[0]):
            parts.setdefault(subject_by_clip[clip], []).append(part)
    found = [
        group_error(name.removeprefix(SUBJECT), truth, predicted, mean_truth, with_ccc=True)
        for name, own in parts.items()
        for truth, predicted in [tuple(np.concatenate(each) for each in zip(*own, strict=True))]
    ]
    return tuple(sorted(found, key=lambda group: -sum(group.rmse)))


def errors_by_region(
    truth: Points, predicted: Points, mean_truth: tuple[float, float], grid: Grid
) -> tuple[GroupError, ...]:
    """Return the errors of the frames whose truth is in each region; none of an empty one."""
    index = region_index(torch.from_numpy(truth), grid).numpy()
    names = region_names(grid)
    return tuple(
        group_error(names[region], truth[index == region], predicted[index == region], mean_truth)
        for region in np.unique(index).tolist()
    )


def group_error(
    name: str,
    truth: Points,
    predicted: Points,
    mean_truth: tuple[float, float],
    *,
    with_ccc: bool = False,
) -> GroupError:
    """Return the errors of a group of at least one frame; `mean_truth` is that of the split."""
    apart, from_mean = predicted - truth, truth - np.array(mean_truth)
    ccc = None
    if with_ccc:
        parts = (Concordance.of(truth[:, k], predicted[:, k]) for k in range(2))
        ccc = VaConcordance(*parts).ccc()[:2]
    return GroupError(
        name,
        len(truth),
        _pair(np.sqrt((apart**2).mean(axis=0))),
        _pair(apart.mean(axis=0)),
        _pair(np.sqrt((from_mean**2).mean(axis=0))),
        ccc,
    )


def _pair(values: Float64[np.ndarray, "2"]) -> tuple[float, float]:
    valence, arousal = values.tolist()
    return valence, arousal


def arrows_of(truth: Points, predicted: Points) -> tuple[Arrow, ...]:
    """Return an arrow for each of `CELLS` x `CELLS` cells of the plane that has frames."""
    place = np.clip(((truth + 1) / CELL).astype(np.int64), 0, CELLS - 1)
    cell = CELLS * place[:, 0] + place[:, 1]
    return tuple(
        Arrow(_pair(truth[own].mean(axis=0)), _pair(predicted[own].mean(axis=0)), int(own.sum()))
        for own in _each(cell)
    )


def _each(labels: Int64[np.ndarray, "N"]) -> Iterator[Bool[np.ndarray, "N"]]:
    """Yield the rows of each label, in the order of the labels."""
    for label in np.unique(labels).tolist():
        yield labels == label
