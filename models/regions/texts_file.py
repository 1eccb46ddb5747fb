"""Reads region texts from YAML files."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from features.errors import InputError
from models.regions.grid import NINE, Grid
from models.regions.prompts import AnyPrompts
from models.regions.texts import RegionTexts

FOLDER = Path(__file__).parents[2] / "configs" / "prompts"  # the package is installed editable


def read_texts(name: str) -> RegionTexts:
    """The texts `configs/prompts/<name>.yaml`, or those of the YAML file at that path.

    Raises `InputError` if the file is missing or invalid.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
    try:
        return RegionTexts.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
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


def grid_of(prompts: AnyPrompts | None) -> Grid:
    """Return the grid of the regions that prompts describe; without prompts, the usual one."""
    return read_texts(prompts.texts).grid if prompts else NINE
