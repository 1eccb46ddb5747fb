"""What every config that a person fills in has: frozen, without unknown keys, and fit for a form.

A form made of its JSON schema (such as Prefect's) shows each field under its own key, with the
field's docstring and its range as help.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

BOUNDS = {  # of JSON schema, as one says them
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "{} or more of them",
}


def with_range(said: str, schema: Mapping[str, Any]) -> str:
    """Help on a field, and behind it the bounds within which its schema wants it."""
    bounds = ", ".join(_bounds(schema))
    return f"{said} {bounds[0].upper()}{bounds[1:]}." if bounds else said


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    """What a schema, or one of its alternatives, says of bounds."""
    for key, said in BOUNDS.items():
        if key in schema:
            yield said.format(schema[key])
    for alternative in schema.get("anyOf", ()):
        yield from _bounds(alternative)


def _show_ranges(schema: dict[str, Any]) -> None:
    """Put the ranges of a model's fields into their help."""
    for field in schema.get("properties", {}).values():
        if "description" in field:
            field["description"] = with_range(field["description"], field)


class Config(BaseModel):
    """A config; its own settings may add to these."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        field_title_generator=lambda name, _: name,
        json_schema_extra=_show_ranges,
    )
