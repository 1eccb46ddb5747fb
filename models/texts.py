"""Region texts as YAML files: the project's own by name, anyone's by path."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from features.errors import InputError
from models.prompts import RegionTexts

FOLDER = Path(__file__).parents[1] / "configs" / "prompts"  # installed editable, from a checkout


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
