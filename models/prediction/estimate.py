"""Valence, arousal and regions of packed rows, from a trained model or from region texts alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from jaxtyping import Float64

from features.canonical_json import canonical_sha256
from models.data.packed import PackedFeatures
from models.metrics.predict import RegionPosterior, mean_prediction
from models.metrics.smoothing import smooth
from models.metrics.zero_shot import predict_zero_shot, region_cosines
from models.regions.grid import Grid
from models.regions.zero_shot import RegionPrototypes, ZeroShotSettings
from models.runs.exported import AnyModel, ExportedHead
from models.runs.predictor import TrainedEnsemble
from models.runs.threads import limit_threads


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is predicted for every row."""

    va: Float64[np.ndarray, "N 2"]
    """In [-1, 1]."""
    regions: RegionPosterior | None = None
    """None without a region branch; the mean over an ensemble's members."""
    spread: Float64[np.ndarray, "N 2"] | None = None
    """Standard deviation of V and A over an ensemble's members; None for a single head."""


@dataclass(frozen=True, slots=True)
class ModelEstimator:
    """Predicts with the head or the ensemble of a run, or with an exported head."""

    model: AnyModel

    @property
    def grid(self) -> Grid:
        """The grid that the head was trained on."""
        return self.model.meta.grid

    def digest(self) -> str:
        """Return the digest of the model."""
        return self.model.digest()

    def estimate(self, packed: PackedFeatures) -> Estimate:
        """Predict with the threads of the training; values are those of `score-head`."""
        model = self.model
        is_exported = isinstance(model, ExportedHead)
        with limit_threads(model.meta.threads if is_exported else model.config.train.threads):
            if not isinstance(self.model, TrainedEnsemble):
                single = self.model.predict(packed, regions=True)
                return Estimate(single.va, single.regions)
            members = [member.predict(packed, regions=True) for member in self.model.members]
        widths = self.model.record.widths_s
        mean = smooth(mean_prediction(members), packed, widths)
        each = np.stack([smooth(member, packed, widths).va for member in members])  # (M, N, 2)
        regions = [member.regions for member in members if member.regions is not None]
        return Estimate(mean.va, _mean_posterior(regions), each.std(axis=0, ddof=1))


def combine(members: Sequence[Estimate]) -> Estimate:
    """Return the mean over the members of an ensemble, with their spread."""
    each = np.stack([member.va for member in members])  # (M, N, 2)
    regions = [member.regions for member in members if member.regions is not None]
    return Estimate(each.mean(axis=0), _mean_posterior(regions), each.std(axis=0, ddof=1))


def _mean_posterior(regions: Sequence[RegionPosterior]) -> RegionPosterior | None:
    """Return the mean over members, which agree on the valid rows; None of none."""
    if not regions:
        return None
    posterior = np.mean([each.posterior for each in regions], axis=0)
    return RegionPosterior(posterior, regions[0].valid)


@dataclass(frozen=True, slots=True)
class ZeroShotEstimator:
    """Predicts from the region texts alone, without training or labels."""

    regions: RegionPrototypes
    settings: ZeroShotSettings = field(default_factory=ZeroShotSettings)

    @property
    def grid(self) -> Grid:
        """The grid of the texts."""
        return self.regions.grid

    def digest(self) -> str:
        """Return the digest of the encoded texts and the settings."""
        decisive = {
            "prototypes": self.regions.prototypes.tolist(),
            "grid": self.grid.model_dump(mode="json"),
            "settings": asdict(self.settings),
        }
        return canonical_sha256(decisive)

    def estimate(self, packed: PackedFeatures) -> Estimate:
        """Predict from the similarities; the region posterior has the scale of valence."""
        va = predict_zero_shot(packed, self.regions, self.settings).va
        similarity = region_cosines(packed, self.regions)
        posterior = torch.softmax(self.settings.scale[0] * similarity, dim=-1)
        valid = packed[self.regions.stream].valid.cpu().numpy()
        shares = np.where(valid[:, None], posterior.double().cpu().numpy(), 0)
        return Estimate(va, RegionPosterior(shares, valid))


Estimator = ModelEstimator | ZeroShotEstimator
"""What predicts rows."""
