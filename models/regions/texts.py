"""Region texts as YAML files: the project's own by name, anyone's by path."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from features.errors import InputError
from models.regions.grid import NINE, Grid

Description = Annotated[str, Field(min_length=1)]

Template = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")]


FOLDER = Path(__file__).parents[2] / "configs" / "prompts"  # installed editable, from a checkout


class RegionTexts(BaseModel):
    """What people in each region look like, in words, and the sentences those words stand in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: tuple[Template, ...] = Field(min_length=1)
    """Sentences with one `{}` for the description."""
    regions: dict[str, dict[str, Annotated[tuple[Description, ...], Field(min_length=1)]]]
    """Descriptions by level of valence, then of arousal."""
    grid: Grid = NINE
    """The levels, and where they lie."""

    @model_validator(mode="after")
    def _all_regions(self) -> "RegionTexts":
        levels, found = self.grid.levels, self.regions
        if strange := [
            name for name in (*found, *(a for v in found.values() for a in v)) if name not in levels
        ]:
            raise ValueError(
                f"{strange[0]!r} is no level of the grid; its levels are {', '.join(levels)}"
            )
        for valence in levels:
            for arousal in levels:
                if arousal not in found.get(valence, {}):
                    raise ValueError(
                        f"no description of {valence} valence with {arousal} arousal; "
                        f"each of the {self.grid.n_regions} regions needs one"
                    )
        return self

    @property
    def by_region(self) -> tuple[tuple[str, ...], ...]:
        """The descriptions of region k = n * v + a at place k."""
        return tuple(self.regions[v][a] for v in self.grid.levels for a in self.grid.levels)


def read_texts(name: str) -> RegionTexts:
    """The texts called `name` in configs/prompts, or in the YAML file of that path.

    `InputError` where there is none, or it breaks a rule.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        return RegionTexts.model_validate(fields)
    except OSError:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise InputError(
            f"there are no region texts {name!r} (no file {path}); give one of {known}, or the "
            "path of a YAML file"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: {field or 'the file'}: {first['msg']}; "
            "configs/prompts/nine_regions.yaml shows the form"
        ) from None
