"""The grid of regions on the valence-arousal plane."""

from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Coordinate = Annotated[float, Field(ge=-1, le=1)]


class Grid(BaseModel):
    """Regions of the plane: the same levels along valence and arousal.

    Region k = n * valence level + arousal level, for n levels: valence is the outer axis.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: tuple[str, ...] = ("low", "mid", "high")
    """Names of the levels, from low to high."""
    centres: tuple[Coordinate, ...] = (-0.66, 0.0, 0.66)  # Jung et al., 2026
    """Coordinate of the centre of each level."""

    @model_validator(mode="after")
    def _check(self) -> "Grid":
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
        """The number of regions."""
        return len(self.levels) ** 2

    @property
    def cuts(self) -> tuple[float, ...]:
        """The boundaries between levels, half-way between neighbouring centres."""
        return tuple((low + high) / 2 for low, high in pairwise(self.centres))


NINE = Grid()
