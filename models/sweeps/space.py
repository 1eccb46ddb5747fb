"""The space of a sweep: keys of a head and its training, and the values that each may have."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, JsonValue, ValidationError, model_validator

from features.canonical_json import JsonObject
from features.config import Config
from features.config_errors import describe, describe_yaml
from features.errors import InputError
from models.ablation.plan import Variant

FOLDER = Path(__file__).parents[2] / "configs" / "sweeps"  # installed editable, from a checkout
EXAMPLE = "configs/sweeps/default.yaml shows the form"
NOT_IN_A_SPACE = {
    "train.seed": "the seeds of a trial count up from it",
    "train.select": "trials are compared by what it selects an epoch by",
    "train.inner_share": "trials are compared on the people that it holds out",
}
ROUNDING = 1e-8  # of a quotient of two decimal fractions


class Choices(Config):
    """Any of a few values."""

    choices: tuple[JsonValue, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_no_value_twice(self) -> "Choices":
        if any(value in self.choices[:place] for place, value in enumerate(self.choices)):
            raise ValueError("a value is there twice")
        return self

    def ends(self) -> tuple[Any, ...]:
        """Return values that show whether the key takes such values."""
        return self.choices


class Numbers(Config):
    """A number between two others, both included; a whole one if all of them are."""

    low: int | float
    high: int | float
    log: bool = False
    """Whether all orders of magnitude are equally likely."""
    step: int | float | None = None
    """Only `low` and whole steps above it."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "Numbers":
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"low ({self.low}) must be above 0 on a logarithmic scale")
        if self.step is None:
            return self
        if self.log:
            raise ValueError("a logarithmic scale has no step: leave one of the two out")
        if not self.step > 0:
            raise ValueError(f"step ({self.step}) must be above 0")
        n_steps = (self.high - self.low) / self.step
        if abs(n_steps - round(n_steps)) > ROUNDING:
            raise ValueError(
                f"high ({self.high}) must be whole steps of {self.step} above low ({self.low})"
            )
        return self

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are in it."""
        return all(isinstance(each, int) for each in (self.low, self.high, self.step or 0))

    def ends(self) -> tuple[Any, ...]:
        """Return values that show whether the key takes such values."""
        return self.low, self.high


Values = Choices | Numbers


@dataclass(frozen=True, slots=True)
class Space:
    """The values that each key may have, by the key as on the command line."""

    values: Mapping[str, Values]

    def as_json(self) -> JsonObject:
        """Return what determines the values that are drawn."""
        return {key: each.model_dump(mode="json") for key, each in self.values.items()}


def read_space(name: str) -> Space:
    """Return the space `name` in configs/sweeps, or in a YAML file.

    Raises `InputError` if it is missing or not valid.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise InputError(
            f"there is no space {name!r} (no file {path}); give one of {known}, or the path of a "
            "YAML file"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; give a YAML file") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {describe_yaml(error)}") from None
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: it holds no keys with values; {EXAMPLE}")
    return Space({str(key): _values(path, str(key), value) for key, value in content.items()})


def variant_of(params: JsonObject) -> Variant:
    """Return the values of keys as the variant of an ablation.

    Raises `InputError` if a key is not of a head or a training, or two say the same.
    """
    nested: dict[str, Any] = {}
    for key, value in params.items():
        *outer, last = key.split(".")
        if not outer or outer[0] not in ("head", "train") or not all((*outer, last)):
            raise InputError(
                f"{key}: only keys inside head and train can vary, such as head.width or "
                "train.learning_rate"
            )
        if why := NOT_IN_A_SPACE.get(key):
            raise InputError(f"{key}: it cannot vary, as {why}")
        node = nested
        for part in outer:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise InputError(f"{key}: a key that holds it varies as a whole; leave one out")
        if last in node:
            raise InputError(f"{key}: keys inside it vary, too; leave one out")
        node[last] = value
    try:
        return Variant.model_validate(nested)
    except ValidationError as error:
        raise InputError(describe(error, Variant)) from None


def _values(path: Path, key: str, value: object) -> Values:
    model = Numbers
    if isinstance(value, list):
        value = {"choices": value}
    if not isinstance(value, dict):
        raise InputError(f"{path}: {key} = {value!r}: give a list of values, or a range; {EXAMPLE}")
    if "choices" in value:
        model = Choices
    try:
        return model.model_validate(value)
    except ValidationError as error:
        where = f"{path}: {key}"
        raise InputError(f"{where}: {describe(error, model)}; {EXAMPLE}") from None
