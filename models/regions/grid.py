"""The grid on the V/A plane, and how much of each region a point belongs to (pure)."""

from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

Coordinate = Annotated[float, Field(ge=-1, le=1)]


class Grid(BaseModel):
    """Regions of the plane: the same levels along valence and arousal.

    Region k = n * valence level + arousal level, for n levels: valence is the outer axis.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: tuple[str, ...] = ("low", "mid", "high")
    """Names along an axis, upward."""
    centres: tuple[Coordinate, ...] = (-0.66, 0.0, 0.66)  # Jung et al., 2026
    """Where each level lies."""

    @model_validator(mode="after")
    def _is_a_grid(self) -> "Grid":
        if len(self.levels) != len(self.centres) or len(self.levels) < 2:
            raise ValueError(
                f"{len(self.levels)} levels and {len(self.centres)} centres; "
                "give as many centres as levels, at least two"
            )
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"the levels {', '.join(self.levels)} are not all different")
        if any(low >= high for low, high in pairwise(self.centres)):
            raise ValueError(f"the centres {self.centres} do not rise; list them from low to high")
        return self

    @property
    def n_regions(self) -> int:
        """Of the whole plane."""
        return len(self.levels) ** 2

    @property
    def cuts(self) -> tuple[float, ...]:
        """Where a level ends and the next one begins: half-way between their centres."""
        return tuple((low + high) / 2 for low, high in pairwise(self.centres))

    @property
    def points(self) -> Float[Tensor, "R 2"]:
        """The centre of each region: valence, arousal."""
        return torch.cartesian_prod(*2 * (torch.tensor(self.centres),))


NINE = Grid()


def soft_labels(
    va: Float[Tensor, "*N 2"], sigma: float, grid: Grid = NINE
) -> Float[Tensor, "*N R"]:
    """Membership of each point in the regions: a Gaussian of its distance, made to sum to 1."""
    # Axis by axis, by numbers of the host: a GPU would have to wait for a table of the centres.
    of_level = torch.stack([(va - centre).square() for centre in grid.centres], dim=-1)
    valence, arousal = of_level.unbind(dim=-2)  # (*N, n levels) each
    squared = (valence.unsqueeze(-1) + arousal.unsqueeze(-2)).flatten(-2)  # (*N, R)
    return torch.softmax(-squared / (2 * sigma**2), dim=-1)


def hard_labels(va: Float[Tensor, "*N 2"], grid: Grid = NINE) -> Float[Tensor, "*N R"]:
    """All membership to the region of the nearest centre."""
    regions = torch.arange(grid.n_regions, device=va.device)
    return (region_index(va, grid).unsqueeze(-1) == regions).to(va.dtype)


def region_index(va: Float[Tensor, "*N 2"], grid: Grid = NINE) -> Int64[Tensor, "*N"]:
    """The region that each point lies in: that of the nearest centre; on a cut, the upper one."""
    level = torch.stack([va >= cut for cut in grid.cuts]).sum(dim=0)  # (*N, 2)
    return len(grid.levels) * level[..., 0] + level[..., 1]
