"""The 3x3 grid on the V/A plane, and how much of each region a point belongs to (pure)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

CENTRE_HIGH = 0.66  # centre of the outer thirds of [-1, 1] (Jung et al., 2026)
LEVELS = ("low", "mid", "high")  # of one axis, in the order of the index
THIRD = 1 / 3  # thirds of [-1, 1] are cut at -1/3 and +1/3

# Row k = 3 * valence level + arousal level: valence is the outer axis.
CENTRES: Float[Tensor, "9 2"] = torch.cartesian_prod(
    *2 * (torch.tensor([-CENTRE_HIGH, 0.0, CENTRE_HIGH]),)
)


def soft_labels(va: Float[Tensor, "*N 2"], sigma: float) -> Float[Tensor, "*N 9"]:
    """Membership of each point in the regions: a Gaussian of its distance, made to sum to 1."""
    squared = (va.unsqueeze(-2) - CENTRES.to(va)).square().sum(dim=-1)  # (*N, 9)
    return torch.softmax(-squared / (2 * sigma**2), dim=-1)


def region_index(va: Float[Tensor, "*N 2"]) -> Int64[Tensor, "*N"]:
    """The region k = 3v + a that each point lies in, by thirds; a point on a cut belongs above."""
    level = (va >= -THIRD).long() + (va >= THIRD).long()  # (*N, 2)
    return len(LEVELS) * level[..., 0] + level[..., 1]
