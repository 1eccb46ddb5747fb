"""What the region branch says of a split, against the soft labels."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from models.metrics.predict import RegionPosterior, region_posterior
from models.regions.grid import NINE, Grid
from models.regions.soft_labels import region_index, soft_labels
from models.runs.predictor import TrainedEnsemble
from models.runs.run_split import PredictedSplit

MINUS = "\N{MINUS SIGN}"
SMALLEST = 1e-300  # keeps the logarithm of a share that underflowed finite


KL_FLOOR = 1e-9  # nats; what float64 leaves of equal soft labels is under 1e-15


@dataclass(frozen=True, slots=True)
class RegionRow:
    """One region in a table."""

    name: str
    n_frames: int
    """Whose truth lies in it."""
    recall: float | None
    """Share of these that the branch gives most weight to it; None where there are none."""


def region_names(grid: Grid) -> tuple[str, ...]:
    """A short name of each region: the signs of its centre where these tell, else the levels."""
    signs = [MINUS if centre < 0 else "+" if centre > 0 else "0" for centre in grid.centres]
    names = signs if len(set(signs)) == len(signs) else grid.levels
    return tuple(f"V{valence} A{arousal}" for valence in names for arousal in names)


@dataclass(frozen=True, slots=True)
class RegionReading:
    """What the region branch says of the annotated frames with a face, against the truth."""

    grid: Grid
    mean_label: Float64[np.ndarray, "R"]
    """Mean soft label."""
    mean_posterior: Float64[np.ndarray, "R"]
    confusion: Int64[np.ndarray, "R R"]
    """Frames by the region the truth lies in (row) and the region of most weight (column)."""
    kl: float
    """Mean KL divergence of the posterior from the soft label, in nats."""
    kl_constant: float
    """The same of the best constant: the mean soft label of these very frames."""

    @property
    def relative_kl(self) -> float | None:
        """`kl` as a share of the constant's; None where all frames have one soft label."""
        return self.kl / self.kl_constant if self.kl_constant > KL_FLOOR else None

    @property
    def rows(self) -> tuple[RegionRow, ...]:
        """The regions one by one."""
        counts, right = self.confusion.sum(axis=1), self.confusion.diagonal()
        return tuple(
            RegionRow(name, int(n), float(hit / n) if n else None)
            for name, n, hit in zip(region_names(self.grid), counts, right, strict=True)
        )


def regions_of(reading: PredictedSplit) -> RegionReading | str:
    """The region branch over the split, or why there is nothing to show of it."""
    bank, meta, predictor = reading.bank, reading.source.meta, reading.source.predictor
    if isinstance(predictor, TrainedEnsemble):
        return (
            "An ensemble has a region branch per member, and they have no mean here: the report of "
            "a member shows its own."
        )
    if not meta.loss.region_weight:
        return "The region branch of this head was not trained: train.loss.region_weight is 0."
    head, windows = predictor.loaded(bank)
    with torch.inference_mode():
        prototypes = head.prototypes()
    found = prototypes is not None and region_posterior(head, prototypes, bank, windows)
    if not found:
        return "This head has no region branch."
    known = found.valid & bank.va_valid.cpu().numpy()
    if not known.any():
        return "No annotated frame of this split has a face to read the regions from."
    return read_regions(found, bank.va.cpu(), known, meta.loss.sigma, meta.grid)


def read_regions(
    found: RegionPosterior,
    va: Float64[Tensor, "N 2"],
    known: Bool[np.ndarray, "N"],
    sigma: float,
    grid: Grid = NINE,
) -> RegionReading:
    """The posteriors of the known rows against the soft labels of their truth."""
    truth = va[torch.from_numpy(known)]
    posterior = found.posterior[known]
    labels = soft_labels(truth, sigma, grid).numpy()
    mean_label = labels.mean(axis=0)
    confusion = np.zeros((grid.n_regions, grid.n_regions), dtype=np.int64)
    np.add.at(confusion, (region_index(truth, grid).numpy(), posterior.argmax(axis=1)), 1)
    return RegionReading(
        grid=grid,
        mean_label=mean_label,
        mean_posterior=posterior.mean(axis=0),
        confusion=confusion,
        kl=_mean_kl(labels, posterior),
        kl_constant=_mean_kl(labels, np.broadcast_to(mean_label, labels.shape)),
    )


def _mean_kl(labels: Float64[np.ndarray, "N R"], shares: Float64[np.ndarray, "N R"]) -> float:
    """Mean over the rows of the sum of p log(p / q), in nats."""
    logarithms = np.log(np.maximum(labels, SMALLEST)) - np.log(np.maximum(shares, SMALLEST))
    return float((labels * logarithms).sum(axis=1).mean())
