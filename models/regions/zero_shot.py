"""Zero-shot valence and arousal: where the regions lie whose texts an embedding is similar to."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from models.regions.grid import NINE, Grid

Pair = tuple[float, float]
"""A number for valence and one for arousal."""
STD_FLOOR = 1e-9  # a barycentre that varies less is constant


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and standard deviation of valence and of arousal."""

    mean: Pair
    std: Pair

    @classmethod
    def of(cls, va: Float64[np.ndarray, "N 2"]) -> "Moments":
        """Return those of N rows, at least one; the deviation is the biased one, as in the CCC."""
        return cls(_pair(va.mean(axis=0)), _pair(va.std(axis=0)))


PUBLISHED_MOMENTS = Moments(mean=(0.074, 0.297), std=(0.402, 0.298))
"""Those of the training labels of Aff-Wild2, for sets without labels.

They are over the valid rows of the training set of the valence-arousal challenge (ABAW10).
"""
UNMATCHED = Moments(mean=(0.0, 0.0), std=(1.0, 1.0))
"""As `found` and as `wanted`, leaves a barycentre as it is."""


@dataclass(frozen=True, slots=True)
class ZeroShotSettings:
    """How cosines become valence and arousal."""

    scale: Pair = (10.0, 10.0)
    """Factor of the cosines in the softmax (Jung et al., 2026, use 10)."""
    width_s: Pair = (2.0, 2.0)
    """Span of the moving mean."""
    found: Moments = UNMATCHED
    """The moments of the smoothed barycentre."""
    wanted: Moments = UNMATCHED
    """The moments that it is matched to."""

    @property
    def factor(self) -> Pair:
        """The ratio of the deviations; 0 for a barycentre that does not vary."""
        ratios = [
            wanted / found if found > STD_FLOOR else 0.0
            for wanted, found in zip(self.wanted.std, self.found.std, strict=True)
        ]
        return ratios[0], ratios[1]

    def match(self, va: Float64[np.ndarray, "N 2"]) -> Float64[np.ndarray, "N 2"]:
        """Return barycentres with the wanted mean and deviation, not clipped."""
        return np.add(self.wanted.mean, (va - self.found.mean) * np.array(self.factor))


@dataclass(frozen=True, slots=True)
class RegionPrototypes:
    """The unit text features of the regions, and the grid in which they lie."""

    prototypes: Float[Tensor, "R D"]
    grid: Grid = NINE
    stream: str = "visual"
    """The stream of features in whose space they are."""


def cosines(
    embeddings: Float[Tensor, "*N D"], prototypes: Float[Tensor, "R D"]
) -> Float[Tensor, "*N R"]:
    """Return the cosines of frozen embeddings, not standardised, with prototypes of unit length."""
    return F.normalize(embeddings, dim=-1) @ prototypes.T


def barycentre(
    cosines: Float[Tensor, "*N R"], centres: Float[Tensor, "R 2"], scale: Float[Tensor, "2"]
) -> Float[Tensor, "*N 2"]:
    """Return the mean of the centres, weighted by a softmax of the cosines at each axis' scale."""
    shares = torch.softmax(scale.unsqueeze(-1) * cosines.unsqueeze(-2), dim=-1)  # (*N, 2, R)
    return (shares * centres.T).sum(dim=-1)


def _pair(values: Float64[np.ndarray, "2"]) -> Pair:
    return float(values[0]), float(values[1])
