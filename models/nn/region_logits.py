"""The region branch: from an embedding to logits of the regions, and back into V and A."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.regions.grid import Grid

SCALE_INIT = 1 / 0.07  # temperature of CLIP (Radford et al., 2021, sec. 2.5)
SCALE_MAX = 100.0  # where CLIP clamps it

LinkName = Literal["none", "probabilities", "barycentre"]


class RegionLogits(nn.Module):
    """scale * cos(embedding, prototype), with a scale that is learned and clamped, or fixed.

    A stream that is not in the joint space of pictures and texts is projected there first.

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
        """Scaled cosine between each row's embedding and each prototype."""
        joint = self.to_joint(embedding) if self.to_joint else embedding
        return self.scale() * F.normalize(joint, dim=-1) @ prototypes.T

    def scale(self) -> Float[Tensor, ""] | float:
        """What the cosines are multiplied by."""
        if self.fixed_scale is not None:
            return self.fixed_scale
        return self.log_scale.exp().clamp(max=SCALE_MAX)


class RegionToVa(nn.Module):
    """What the regions' probabilities add to V and A: a barycentre, stretched and moved.

    The barycentre of soft labels shrinks toward the middle of the plane, so each axis has a
    learned factor and shift; they begin at 1 and 0. A row without region logits adds nothing.
    """

    points: Float[Tensor, "R 2"]

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.register_buffer("points", grid.points, persistent=False)
        self.factor = nn.Parameter(torch.ones(2))
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(
        self, shares: Float[Tensor, "B P R"], valid: Bool[Tensor, "B P"]
    ) -> Float[Tensor, "B P 2"]:
        """V and A as the regions tell them."""
        told = self.factor * (shares @ self.points) + self.shift
        return told * valid.unsqueeze(-1)
