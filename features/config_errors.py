"""Errors of pydantic and YAML in one line: field, value, rule, and the nearest valid name."""

from difflib import get_close_matches
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from features.plugins import GROUPS, plugins


def describe_yaml(error: yaml.YAMLError) -> str:
    """A YAML error in one line: position and problem."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(error).splitlines()[0]


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """The first error in one line; an unknown key comes before other errors."""
    errors = error.errors(include_url=False)
    unknown = (each for each in errors if each["type"] == "extra_forbidden")
    first: Any = next(unknown, errors[0])  # a misspelt key is reported as a missing one, too
    field = ".".join(_path(model, first["loc"]))
    if first["type"] == "extra_forbidden":
        near = get_close_matches(
            str(first["loc"][-1]), keys_at(model, first["loc"][:-1]), n=1, cutoff=0.0
        )
        hint = f"; the nearest valid one is {near[0]!r}" if near else ""
        return f"unknown key {field!r}{hint}"
    kind_field = f"{field}.kind".removeprefix(".")
    if first["type"] == "union_tag_invalid":
        kind, tags = str(first["ctx"]["tag"]), first["ctx"]["expected_tags"].split(",")
        kinds = [tag.strip(" '") for tag in tags]
        near = get_close_matches(kind, kinds, n=1, cutoff=0.0)[0]
        return (
            f"{kind_field} = {first['ctx']['tag']!r}: there is no such kind; the kinds are "
            f"{', '.join(kinds)}, the nearest is {near!r}{_broken_plugin(kind)}"
        )
    if first["type"] in ("missing", "union_tag_not_found"):
        key = field if first["type"] == "missing" else kind_field
        return f"the key {key!r} is missing"
    if first["type"] in ("string_pattern_mismatch", "string_unicode") and field == "id":
        return (
            f"the id {first['input']!r} is not safe as a name: 1 to 128 letters, digits, '.', '_' "
            "or '-', beginning with a letter or digit"
        )
    messages = [first["msg"].removeprefix("Value error, ")]
    if not first["loc"]:  # of the model as a whole
        return messages[0]
    if str(first["loc"][-1]).startswith("literal["):  # one of the types that a key may have
        parent = first["loc"][:-1]
        field = ".".join(_path(model, parent))
        messages = [each["msg"] for each in errors if each["loc"][:-1] == parent]
    message = "; or: ".join(messages)
    return f"{field} = {first['input']!r}: {message}"


def _broken_plugin(kind: str) -> str:
    """A hint if a plug-in of this kind is installed: it was left out, as it cannot be used."""
    is_installed = any(plugin.name == kind for group in GROUPS for plugin in plugins(group))
    return (
        f"; the plug-in {kind!r} cannot be used, `vaflow plugins` says why" if is_installed else ""
    )


def _path(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """A location as a user writes it: without the tags that pydantic adds for unions."""
    return [
        str(part)
        for index, part in enumerate(location)
        if part != "[key]"
        and not any(part == kind_of(m) for m in _models_at(model, location[:index]))
    ]


def keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The valid keys at a location in a model, given as in pydantic's errors."""
    return list(dict.fromkeys(n for m in _models_at(model, location) for n in m.model_fields))


def _models_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[type[BaseModel]]:
    models: list[type[BaseModel]] = [model]
    for part in location:
        tagged = [m for m in models if part == kind_of(m)]
        fields = [m.model_fields[part].annotation for m in models if part in m.model_fields]
        inner = [each for annotation in fields for each in models_in(annotation)]
        models = tagged or inner or models
    return models


def kind_of(model: type[BaseModel]) -> str | None:
    """The tag of this model in a discriminated union, or None."""
    field = model.model_fields.get("kind")
    return field.default if field and not field.is_required() else None


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models inside the unions, sequences and annotations of a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]
