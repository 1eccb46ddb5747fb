"""The posteriors of the region branch on a split, against the soft labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from models.metrics.predict import RegionPosterior
from models.regions.grid import NINE, Grid
from models.regions.soft_labels import region_index, soft_labels
from models.runs.predictor import TrainedEnsemble
from models.runs.run_split import PredictedSplit

MINUS = "\N{MINUS SIGN}"
SMALLEST = 1e-300  # keeps the logarithm finite if a share underflows
N_BINS = 10  # of the calibration
KL_FLOOR = 1e-9  # nats; rounding makes less than 1e-15 of equal soft labels


def region_names(grid: Grid) -> tuple[str, ...]:
    """A short name per region: the signs of its centre if these are unique, else the levels."""
    signs = [MINUS if centre < 0 else "+" if centre > 0 else "0" for centre in grid.centres]
    names = signs if len(set(signs)) == len(signs) else grid.levels
    return tuple(f"V{valence} A{arousal}" for valence in names for arousal in names)


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The probabilities that the branch gave, over all frames and regions, in one tenth of [0, 1].

    A calibrated branch has equal means. It is trained towards soft labels, so that these are what
    its probabilities should match; a frame lies in one region only, whose share is beside them.
    """

    n: int
    mean_probability: float
    mean_label: float
    """Mean soft label."""
    share: float
    """Share of the pairs of a frame and a region in which the frame's label lies in the region."""


@dataclass(frozen=True, slots=True)
class RegionReading:
    """The region branch on the annotated frames with a face."""

    grid: Grid
    mean_label: Float64[np.ndarray, "R"]
    mean_posterior: Float64[np.ndarray, "R"]
    confusion: Int64[np.ndarray, "R R"]
    """Frames by the region of the label (row) and the most probable region (column)."""
    kl: float
    """Mean KL divergence of the posterior from the soft label, in nats."""
    kl_constant: float
    """The same for the best constant, which is the mean soft label of these frames."""
    calibration: tuple[CalibrationBin, ...] = ()
    """Of the bins that have a probability."""

    @property
    def calibration_error(self) -> float | None:
        """Mean distance of probability and soft label of the bins, weighted by their size."""
        n = sum(each.n for each in self.calibration)
        apart = (each.n * abs(each.mean_probability - each.mean_label) for each in self.calibration)
        return sum(apart) / n if n else None

    @property
    def relative_kl(self) -> float | None:
        """`kl` as a share of `kl_constant`; None if all frames have the same soft label."""
        return self.kl / self.kl_constant if self.kl_constant > KL_FLOOR else None

    @property
    def rows(self) -> list[tuple[str, int, float | None]]:
        """Name of each region, frames whose label lies in it, and the share that it is found in.

        That share is None without frames.
        """
        counts, right = self.confusion.sum(axis=1).tolist(), self.confusion.diagonal().tolist()
        names = region_names(self.grid)
        return [
            (name, n, hit / n if n else None)
            for name, n, hit in zip(names, counts, right, strict=True)
        ]


def regions_of(split: PredictedSplit) -> RegionReading | str:
    """The region branch on a split, or why there is nothing to show."""
    packed, meta, posterior = split.packed, split.source.predictor.meta, split.prediction.regions
    if isinstance(split.source.predictor, TrainedEnsemble):
        return (
            "An ensemble has a region branch per member, and they have no mean here: the report of "
            "a member shows its own."
        )
    if not meta.loss.region_weight:
        return "The region branch of this head was not trained: train.loss.region_weight is 0."
    if posterior is None:
        return "This head has no region branch."
    rows = posterior.valid & packed.va_valid.cpu().numpy()
    if not rows.any():
        return "No annotated frame of this split has a face to read the regions from."
    return read_regions(posterior, packed.va.cpu(), rows, meta.loss.sigma, meta.grid)


def read_regions(
    regions: RegionPosterior,
    va: Float64[Tensor, "N 2"],
    known: Bool[np.ndarray, "N"],
    sigma: float,
    grid: Grid = NINE,
) -> RegionReading:
    """The posteriors of the known rows against the soft labels of `va`."""
    truth = va[torch.from_numpy(known)]
    posterior = regions.posterior[known]
    labels = soft_labels(truth, sigma, grid).numpy()
    mean_label = labels.mean(axis=0)
    confusion = np.zeros((grid.n_regions, grid.n_regions), dtype=np.int64)
    index = region_index(truth, grid).numpy()
    np.add.at(confusion, (index, posterior.argmax(axis=1)), 1)
    return RegionReading(
        grid=grid,
        mean_label=mean_label,
        mean_posterior=posterior.mean(axis=0),
        confusion=confusion,
        kl=_mean_kl(labels, posterior),
        kl_constant=_mean_kl(labels, np.broadcast_to(mean_label, labels.shape)),
        calibration=tuple(_calibration(labels, posterior, index)),
    )


def _calibration(
    labels: Float64[np.ndarray, "N R"],
    posterior: Float64[np.ndarray, "N R"],
    index: Int64[np.ndarray, "N"],
) -> Iterator[CalibrationBin]:
    in_region = index[:, None] == np.arange(posterior.shape[1])
    place = np.minimum((posterior * N_BINS).astype(np.int64), N_BINS - 1)
    for k in range(N_BINS):
        own = place == k
        if n := int(own.sum()):
            means = (float(each[own].mean()) for each in (posterior, labels, in_region))
            yield CalibrationBin(n, *means)


def _mean_kl(labels: Float64[np.ndarray, "N R"], shares: Float64[np.ndarray, "N R"]) -> float:
    logarithms = np.log(np.maximum(labels, SMALLEST)) - np.log(np.maximum(shares, SMALLEST))
    return float((labels * logarithms).sum(axis=1).mean())
