"""Descriptions of what a person looks like in each region."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.regions.grid import NINE, Grid

Description = Annotated[str, Field(min_length=1)]
Template = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")]


class RegionTexts(BaseModel):
    """Descriptions of each region, and templates that put a description into a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: tuple[Template, ...] = Field(min_length=1)
    """Sentences with one `{}` for the description."""
    regions: dict[str, dict[str, Annotated[tuple[Description, ...], Field(min_length=1)]]]
    """Descriptions by level of valence, then of arousal."""
    grid: Grid = NINE

    @model_validator(mode="after")
    def _check(self) -> "RegionTexts":
        levels, regions = self.grid.levels, self.regions
        names = (*regions, *(arousal for by_arousal in regions.values() for arousal in by_arousal))
        if unknown := [name for name in names if name not in levels]:
            raise ValueError(
                f"{unknown[0]!r} is no level of the grid; its levels are {', '.join(levels)}"
            )
        for valence in levels:
            for arousal in levels:
                if arousal not in regions.get(valence, {}):
                    raise ValueError(
                        f"no description of {valence} valence with {arousal} arousal; "
                        f"each of the {self.grid.n_regions} regions needs one"
                    )
        return self

    @property
    def by_region(self) -> tuple[tuple[str, ...], ...]:
        """The descriptions of each region, in the order of the grid."""
        return tuple(self.regions[v][a] for v in self.grid.levels for a in self.grid.levels)
