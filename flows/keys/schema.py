"""The keys of a stage as a table, those inside its configs included.

It is made from the stage's signature and the pydantic models in it, so it cannot become outdated.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from features.config_errors import kind_of, models_in
from flows.keys.help import key_help
from flows.keys.signature import keys_of

TYPES = {
    str: "text",
    Path: "path",
    int: "integer",
    float: "number",
    bool: "true | false",
    NoneType: "null",
}


@dataclass(frozen=True, slots=True)
class Key:
    """A key that the command line and YAML take."""

    name: str
    """With dots for a key inside a config, and N for a place in a list."""
    type: str
    default: str | None
    """As YAML; None if the key is required."""
    help: str
    section: str = ""
    """The config that the key is inside of, with its kind; empty for a key of the stage itself."""


def stage_schema(function: Callable) -> Iterator[Key]:
    """The keys of a stage's function: first its own, then those of each config.

    A config of several kinds has all keys of the first kind; the other kinds have only those that
    the first lacks, or that differ from it in type or default.
    """
    configs = []
    for name, parameter in keys_of(function).items():
        text = key_help(function.__name__, name, parameter.annotation)
        default = PydanticUndefined if parameter.default is parameter.empty else parameter.default
        yield Key(name, _type(parameter.annotation), _default(default), text)
        configs.append((name, parameter.annotation, default))
    for name, annotation, default in configs:
        yield from _config_keys(name, annotation, default)


def _config_keys(name: str, annotation: Any, default: Any) -> Iterator[Key]:
    prefix = f"{name}.N" if _is_list(annotation) else name
    first: dict[str, tuple[str, str | None]] = {}
    for model in models_in(annotation):
        kind = kind_of(model)
        section = f"{prefix}, kind {kind}" if kind else prefix
        shown = default if isinstance(default, model) else None
        properties = model.model_json_schema()["properties"]
        inner = []
        for field_name, field in model.model_fields.items():
            if field_name == "kind":
                continue
            value = (
                getattr(shown, field_name)
                if shown
                else field.get_default(call_default_factory=True, validated_data={})
            )
            about = _type(field.annotation), _default(value)
            if first.get(field_name) != about:
                text = properties[field_name].get("description", "")
                yield Key(f"{prefix}.{field_name}", *about, text, section)
            if field_name not in first:
                inner.append((f"{prefix}.{field_name}", field.annotation, value))
            first.setdefault(field_name, about)
        for each in inner:
            yield from _config_keys(*each)


def _is_list(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_list(get_args(annotation)[0])
    return get_origin(annotation) in (tuple, list)


def _type(annotation: Any) -> str:
    if models := models_in(annotation):
        kinds = " or ".join(str(kind_of(model)) for model in models if kind_of(model))
        config = f"config of kind {kinds}" if kinds else "config"
        return f"list of {config}" if _is_list(annotation) else config
    parts = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Annotated:
            return _type(parts[0])
        case origin if origin is Literal:
            return " | ".join(map(str, parts))
        case origin if origin in (Union, UnionType):
            return " | ".join(_type(part) for part in parts)
        case origin if origin in (tuple, list):
            return f"list of {_type(parts[0])}"
    return TYPES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(value: Any) -> str | None:
    if value is PydanticUndefined:
        return None
    if isinstance(value, BaseModel):
        return f"kind {kind_of(type(value))}" if kind_of(type(value)) else "see below"
    if isinstance(value, tuple) and all(isinstance(each, BaseModel) for each in value) and value:
        value = [{"kind": kind_of(type(m)), **m.model_dump(exclude_defaults=True)} for m in value]
    plain = to_jsonable_python(value)
    return plain if isinstance(plain, str) else json.dumps(plain)
