"""From a YAML file and `key=value` overrides to the keys of a stage."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from features.config_errors import describe, describe_yaml, keys_at
from features.errors import InputError
from flows.stage_keys import known_keys, parameters
from models.training.old_keys import move_old_keys


def settings(function: Callable, config: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """What to call a stage with, defaults among it; `InputError` as by `checked_keys`."""
    checked = checked_keys(function, config, overrides)
    return {name: getattr(checked, name) for name in type(checked).model_fields}


def checked_keys(
    function: Callable,
    config: Path | None,
    overrides: Sequence[str],
    base: Mapping[str, Any] = MappingProxyType({}),
) -> BaseModel:
    """The keys of a stage that are set; `InputError` names the first one that is wrong.

    The file may be that of a whole experiment: keys of other stages are left out. It goes before
    `base`, and overrides, which are for this stage alone, before both.
    """
    model = parameters(function)
    from_file = _from_file(config)
    both = {**deepcopy(dict(base)), **from_file}
    given = {k: v for k, v in both.items() if k in model.model_fields}
    # Kinds first: a config of another kind begins with the defaults of that kind.
    for override in sorted(overrides, key=lambda o: not o.partition("=")[0].endswith(".kind")):
        _set(given, override, model)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise InputError(describe(error, model)) from None


def _from_file(path: Path | None) -> Mapping[str, Any]:
    """The keys in a YAML file."""
    if path is None:
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InputError(
            f"the config {path} cannot be read ({why}); give -c a file of keys"
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"the config {path} is not YAML: {describe_yaml(error)}") from None
    if not isinstance(found, dict):
        raise InputError(f"the config {path} must hold keys and values, such as `store: ...`")
    known = known_keys()
    for key in found:
        if key not in known:
            near = get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise InputError(f"{path}: unknown key {key!r}; the nearest valid one is {near!r}")
    try:
        return move_old_keys(found)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _is_text(model: type[BaseModel], key: str) -> bool:
    """Whether a key holds a text or a path."""
    field = model.model_fields.get(key)
    kinds = (*get_args(field.annotation), field.annotation) if field else ()
    return str in kinds or Path in kinds


def _set(given: dict[str, Any], override: str, model: type[BaseModel]) -> None:
    """Put one `a.b=value` into the keys; the value is read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"{override!r} is no override; write key=value, such as train.epochs=5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"the value of {override!r} is not YAML: {describe_yaml(error)}") from None
    first, *inner = key.split(".")
    if first not in model.model_fields and first in known_keys():
        raise InputError(f"{override!r}: {first!r} is a key of other stages, not of this one")
    if not inner and isinstance(value, int | float) and _is_text(model, first):
        value = text  # a folder may be called 2024
    if inner and first not in given and first in model.model_fields:
        default = model.model_fields[first].default
        given[first] = default.model_dump() if isinstance(default, BaseModel) else {}
    place: Any = given
    for part, following in zip([first, *inner], [*inner, None], strict=True):
        index: Any = part
        if isinstance(place, list):
            if not (part.isdigit() and int(part) < len(place)):
                raise InputError(f"{key}: {part!r} is no place in a list of {len(place)}")
            index = int(part)
        if following is None:
            if part == "kind" and isinstance(place, dict) and place.get("kind", value) != value:
                _forget_old_kind(given, place, [first, *inner[:-1]], str(value), model)
            place[index] = value
            return
        if isinstance(place, dict):
            place.setdefault(index, {})
        place = place[index]
        if not isinstance(place, dict | list):
            raise InputError(f"{key}: {part!r} holds {place!r}, which has no key {following!r}")


def _forget_old_kind(
    given: dict[str, Any],
    place: dict[str, Any],
    parts: list[str],
    kind: str,
    model: type[BaseModel],
) -> None:
    """Removes what another kind does not have; a head of another kind is that preset as published.

    The loss belongs to the preset. `ablate` treats a row with another kind in the same way.
    """
    kept = keys_at(model, (*parts, kind))
    if parts == ["head"]:
        kept = []
        given.get("train", {}).pop("loss", None)
    for name in place.keys() - set(kept):
        del place[name]
