"""The base class of every config: frozen, no unknown keys, and with help in its JSON schema.

A form made from the schema (such as Prefect's) shows each field by its key, with its docstring and
its range as help.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

BOUNDS = {  # of JSON schema, in words
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minItems": "{} or more of them",
}


def with_range(text: str, schema: Mapping[str, Any]) -> str:
    """The help text of a field, followed by the bounds in its schema."""
    bounds = ", ".join(_bounds(schema))
    return f"{text} {bounds[0].upper()}{bounds[1:]}." if bounds else text


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    """The bounds in a schema and its alternatives, in words."""
    for key, words in BOUNDS.items():
        if key in schema:
            yield words.format(schema[key])
    for alternative in schema.get("anyOf", ()):
        yield from _bounds(alternative)


def _show_ranges(schema: dict[str, Any]) -> None:
    for field in schema.get("properties", {}).values():
        if "description" in field:
            field["description"] = with_range(field["description"], field)


class Config(BaseModel):
    """Base class of configs."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        field_title_generator=lambda name, _: name,
        json_schema_extra=_show_ranges,
    )
