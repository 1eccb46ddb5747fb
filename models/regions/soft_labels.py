"""Region labels of points on the valence-arousal plane (Jung et al., 2026)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from models.regions.grid import NINE, Grid


def soft_labels(
    va: Float[Tensor, "*N 2"], sigma: float, grid: Grid = NINE
) -> Float[Tensor, "*N R"]:
    """Softmax over the regions of -distance^2 / (2 sigma^2) between a point and their centres."""
    # Axis by axis with Python numbers: a tensor of centres on a GPU would cost a synchronisation
    # (`test_loop.py::test_no_step_waits_for_a_value`).
    by_level = torch.stack([(va - centre).square() for centre in grid.centres], dim=-1)
    valence, arousal = by_level.unbind(dim=-2)  # (*N, n levels) each
    squared = (valence.unsqueeze(-1) + arousal.unsqueeze(-2)).flatten(-2)  # (*N, R)
    return torch.softmax(-squared / (2 * sigma**2), dim=-1)


def hard_labels(va: Float[Tensor, "*N 2"], grid: Grid = NINE) -> Float[Tensor, "*N R"]:
    """One-hot labels of the region with the nearest centre."""
    regions = torch.arange(grid.n_regions, device=va.device)
    return (region_index(va, grid).unsqueeze(-1) == regions).to(va.dtype)


def region_index(va: Float[Tensor, "*N 2"], grid: Grid = NINE) -> Int64[Tensor, "*N"]:
    """Index of the region with the nearest centre; on a boundary, the higher level."""
    level = torch.stack([va >= cut for cut in grid.cuts]).sum(dim=0)  # (*N, 2)
    return len(grid.levels) * level[..., 0] + level[..., 1]


def region_centres(grid: Grid) -> Float[Tensor, "R 2"]:
    """Valence and arousal of the centre of each region."""
    return torch.cartesian_prod(*2 * (torch.tensor(grid.centres),))
