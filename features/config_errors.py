"""A complaint of pydantic in one line: which field, which value, which rule, what is near."""

from difflib import get_close_matches
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError


def describe_yaml(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML text, in one line: where, and what was found there."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return str(error).splitlines()[0]


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint; an unknown key comes before others, with the nearest valid one."""
    complaints = error.errors(include_url=False)
    unknown = (c for c in complaints if c["type"] == "extra_forbidden")
    first = next(unknown, complaints[0])  # a misspelt key makes another one missing, too
    field = ".".join(_typed(model, first["loc"]))
    if first["type"] == "extra_forbidden":
        near = get_close_matches(
            str(first["loc"][-1]), keys_at(model, first["loc"][:-1]), n=1, cutoff=0.0
        )
        hint = f"; the nearest valid one is {near[0]!r}" if near else ""
        return f"unknown key {field!r}{hint}"
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_kind(field, first)
    if first["type"] == "missing":
        return f"the key {field!r} is missing"
    if first["type"] == "string_pattern_mismatch" and field == "id":
        return (
            f"the id {first['input']!r} is not safe as a name: 1 to 128 letters, digits, '.', '_' "
            "or '-', beginning with a letter or digit"
        )
    message = first["msg"].removeprefix("Value error, ")
    return f"{field} = {first['input']!r}: {message}"


def _wrong_kind(field: str, complaint: Any) -> str:
    """Of a config that names no kind, or one that there is not: the kinds that there are."""
    place = f"{field}.kind".removeprefix(".")
    context = complaint.get("ctx", {})
    if complaint["type"] == "union_tag_not_found":
        return f"the key {place!r} is missing"
    kinds = [kind.strip(" '") for kind in context["expected_tags"].split(",")]
    near = get_close_matches(str(context["tag"]), kinds, n=1, cutoff=0.0)[0]
    return (
        f"{place} = {context['tag']!r}: there is no such kind; the kinds are {', '.join(kinds)}, "
        f"the nearest is {near!r}"
    )


def _typed(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The place as one would write it: without the tags that pydantic puts in for unions."""
    return [
        str(part)
        for index, part in enumerate(location)
        if not any(part == _kind(m) for m in _models_at(model, location[:index]))
    ]


def keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are valid at a place in a model, as pydantic names places."""
    return list(dict.fromkeys(n for m in _models_at(model, location) for n in m.model_fields))


def _models_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """The models that may stand at a place."""
    here: list[type[BaseModel]] = [model]
    for part in location:
        tagged = [m for m in here if part == _kind(m)]
        fields = [m.model_fields[part].annotation for m in here if part in m.model_fields]
        inner = [leaf for annotation in fields for leaf in _leaves(annotation)]
        models = [m for m in inner if isinstance(m, type) and issubclass(m, BaseModel)]
        here = tagged or models or here
    return here


def _kind(model: type[BaseModel]) -> Any:
    """The tag by which a union tells this model from others, if it has one."""
    field = model.model_fields.get("kind")
    return field.default if field else None


def _leaves(annotation: Any) -> list[Any]:
    """The types inside unions, sequences and annotations."""
    if get_origin(annotation) is Annotated:
        return _leaves(get_args(annotation)[0])
    if get_args(annotation) and not isinstance(annotation, str):
        return [leaf for inner in get_args(annotation) for leaf in _leaves(inner)]
    return [annotation]
