"""The region branch: logits of the regions from an embedding, and V and A from the regions."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.regions.grid import Grid
from models.regions.soft_labels import region_centres

SCALE_INIT = 1 / 0.07  # temperature of CLIP (Radford et al., 2021, sec. 2.5)
SCALE_MAX = 100.0  # where CLIP clamps it


class RegionLogits(nn.Module):
    """scale * cos(embedding, prototype); the scale is fixed, or learned and clamped.

    An embedding whose width differs from that of CLIP's joint space is projected to it first.

    Shapes: embedding (B, P, D), prototypes (R, J) -> (B, P, R).
    """

    def __init__(self, n_inputs: int, n_joint: int, fixed_scale: float | None) -> None:
        super().__init__()
        self.to_joint = nn.Linear(n_inputs, n_joint) if n_inputs != n_joint else None
        self.fixed_scale = fixed_scale
        if fixed_scale is None:
            self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE_INIT)))

    def forward(
        self, embedding: Float[Tensor, "B P D"], prototypes: Float[Tensor, "R J"]
    ) -> Float[Tensor, "B P R"]:
        """The logits; prototypes have unit length."""
        joint = self.to_joint(embedding) if self.to_joint else embedding
        return self.scale() * F.normalize(joint, dim=-1) @ prototypes.T

    def scale(self) -> Float[Tensor, ""] | float:
        """The factor of the cosines."""
        if self.fixed_scale is not None:
            return self.fixed_scale
        return self.log_scale.exp().clamp(max=SCALE_MAX)


class RegionToVa(nn.Module):
    """V and A as the barycentre of the regions, with a learned factor and shift per axis.

    The barycentre of soft labels shrinks towards the middle of the plane, which the factor and
    shift, initially 1 and 0, can undo. Rows without region logits give 0.

    Shapes: probabilities (B, P, R), valid (B, P) -> (B, P, 2).
    """

    centres: Float[Tensor, "R 2"]

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("centres", region_centres(grid), persistent=False)
        self.factor = nn.Parameter(torch.ones(2))
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(
        self, probabilities: Float[Tensor, "B P R"], valid: Bool[Tensor, "B P"]
    ) -> Float[Tensor, "B P 2"]:
        """Valence and arousal."""
        va = self.factor * (probabilities @ self.centres) + self.shift
        return va * valid.unsqueeze(-1)
