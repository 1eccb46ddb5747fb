"""The keys of a stage, from a YAML file and `key=value` overrides."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from features.config_errors import describe, describe_yaml
from features.errors import InputError
from flows.key_help import known_keys
from flows.stage_keys import keys_model, kind_of, models_in
from models.training.old_keys import OLD_KEYS as OLD_CONFIG_KEYS
from models.training.old_keys import move_old_keys

RENAMED = {"max_rows_apart": "max_length_mismatch", "rows": "variants"}  # of the stages
OLD_KEYS = {**RENAMED, **OLD_CONFIG_KEYS}
"""The new name of each old key. A file may still have the old one; the command line may not."""
YAML_SUFFIXES = (".yaml", ".yml")


def settings(function: Callable, config: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """The arguments to call a stage with, defaults included; raises as `checked_keys`."""
    checked = checked_keys(function, config, overrides)
    return {name: getattr(checked, name) for name in type(checked).model_fields}


def check_key_names(overrides: Iterable[str]) -> None:
    """Raise `InputError` for a key that no stage has, without importing a stage.

    The modules of a stage take seconds to import (tested in test_main.py).
    """
    for override in overrides:
        first = _parse(override)[0].split(".")[0]
        if first not in known_keys() and first not in RENAMED:
            near = get_close_matches(first, known_keys(), n=1, cutoff=0.0)[0]
            raise InputError(f"unknown key {first!r}; the nearest valid one is {near!r}")


def checked_keys(
    function: Callable,
    config: Path | None,
    overrides: Sequence[str],
    base: Mapping[str, Any] = MappingProxyType({}),
) -> BaseModel:
    """The validated keys of a stage; raises `InputError` for the first one that is wrong.

    Overrides win over the file, and the file over `base`. The file may be the config of a whole
    experiment: keys of other stages are ignored. In place of a config such as `head`, file and
    overrides may give the path of a YAML file with that config.
    """
    model = keys_model(function)
    from_file = _read_mapping(config) if config else {}
    _check_known(config, from_file)
    given = {}
    for key, value in _move_old_keys({**deepcopy(dict(base)), **from_file}).items():
        if key in model.model_fields:
            given[key] = _config_value(value, key, [model.model_fields[key]])
    given = _move_old_keys(given)  # those of a file that was given for the head
    for key, value in _in_order(_parse(override) for override in overrides):
        _check_override(key, model)
        _set(given, key, value, model)
    try:
        return model.model_validate(_move_old_keys(given))
    except ValidationError as error:
        raise InputError(describe(error, model)) from None


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        keys = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(
            f"the config {path} cannot be read ({why}); give a YAML file of keys"
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"the config {path} is not YAML: {describe_yaml(error)}") from None
    if not isinstance(keys, dict):
        raise InputError(f"the config {path} must hold keys and values, such as `store: ...`")
    return keys


def _move_old_keys(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The keys, each that was renamed under its new name; `InputError` if both are given."""
    try:
        return move_old_keys({RENAMED.get(key, key): value for key, value in keys.items()})
    except ValueError as error:
        raise InputError(str(error)) from None


def _renamed(model: type[BaseModel]) -> dict[str, str]:
    """The new name of each renamed key of this stage."""
    return {old: new for old, new in OLD_KEYS.items() if new.split(".")[0] in model.model_fields}


def _check_known(path: Path | None, keys: Iterable[str]) -> None:
    """Raise `InputError` for a key that no stage has."""
    known = known_keys()
    for key in keys:
        if key not in known and key not in RENAMED:
            near = get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            raise InputError(f"{path}: unknown key {key!r}; the nearest valid one is {near!r}")


def _parse(override: str) -> tuple[str, str]:
    """The key and the text of `key=value`."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"{override!r} is no override; write key=value, such as train.epochs=5")
    return key, text


def _in_order(overrides: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Outer keys before the keys inside them, and `kind` first: it decides the others' defaults."""
    return sorted(overrides, key=lambda each: (each[0].count("."), not each[0].endswith(".kind")))


def _check_override(key: str, model: type[BaseModel]) -> None:
    """Raise `InputError` for an old name, and for a key of other stages only."""
    if new := _renamed(model).get(key):
        raise InputError(f"the key {key!r} is now called {new!r}: write {new}=...")
    first = key.split(".")[0]
    if first not in model.model_fields and first in known_keys():
        raise InputError(f"{key!r}: {first!r} is a key of other stages, not of this one")


def _set(given: dict[str, Any], key: str, text: str, model: type[BaseModel]) -> None:
    """Set `a.b` to the text, parsed as YAML.

    YAML refuses some characters of file names and takes others for the end of a line: a text that
    is not printable is the value of a key with a text.
    """
    value = _parse_yaml(key, text) if text.isprintable() else text
    parts = key.split(".")
    node: Any = given
    candidates = models = [model]
    for depth, part in enumerate(parts[:-1]):
        fields = _fields(models, part)
        if isinstance(node, dict) and part not in node:
            node[part] = _default(fields)
        node = node[_index(node, part, key)]
        if not isinstance(node, dict | list):
            raise InputError(
                f"{key}: {part!r} holds {node!r}, which has no key {parts[depth + 1]!r}"
            )
        candidates = models if part.isdigit() else _models_in(fields)
        models = _models_of(node, candidates)
    last = parts[-1]
    if last == "kind" and isinstance(node, dict) and value != node.get("kind"):
        names = [part for part in parts if not part.isdigit()]
        _change_kind(node, value, candidates, is_inside=len(names) > 2)
        return
    fields = _fields(models, last)
    if isinstance(value, int | float) and len(parts) == 1 and _is_text(fields):
        value = text  # a folder may be called 2024
    if not text.isprintable() and (_models_in(fields) or not _is_text(fields)):
        value = _parse_yaml(key, text)
    node[_index(node, last, key)] = _config_value(value, last, fields)


def _parse_yaml(key: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"the value of '{key}={text}' is not YAML: {describe_yaml(error)}"
        ) from None


def _index(node: Any, part: str, key: str) -> Any:
    """The part of a key as an index of a dictionary or a list."""
    if isinstance(node, dict):
        return part
    if not (part.isdigit() and int(part) < len(node)):
        raise InputError(f"{key}: {part!r} is no index of a list of {len(node)}")
    return int(part)


def _change_kind(
    config: dict[str, Any], kind: Any, models: Iterable[type[BaseModel]], *, is_inside: bool
) -> None:
    """Make a config the preset of another kind, as a variant of an ablation does.

    A config inside another one (`head.prompts.kind`) keeps those keys that the new kind has too.
    """
    names = {n for model in models if kind_of(model) == kind for n in model.model_fields}
    kept = {n: value for n, value in config.items() if is_inside and n in names}
    config.clear()
    config.update({**kept, "kind": kind})


def _fields(models: Sequence[type[BaseModel]], name: str) -> list[FieldInfo]:
    return [each.model_fields[name] for each in models if name in each.model_fields]


def _models_in(fields: Iterable[FieldInfo]) -> list[type[BaseModel]]:
    return list(dict.fromkeys(model for each in fields for model in models_in(each.annotation)))


def _models_of(config: Any, models: list[type[BaseModel]]) -> list[type[BaseModel]]:
    """The models of the kind of a config, or all."""
    kind = config.get("kind") if isinstance(config, dict) else None
    return [model for model in models if kind_of(model) == kind] or models


def _default(fields: Sequence[FieldInfo]) -> dict[str, Any]:
    """The default of a config, as YAML has it."""
    for each in fields:
        default = each.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, BaseModel):
            return default.model_dump(mode="json")
    return {}


def _config_value(value: Any, key: str, fields: Sequence[FieldInfo]) -> Any:
    """The value, or the content of the YAML file that is given in place of a config."""
    if not (isinstance(value, str) and value.endswith(YAML_SUFFIXES) and _models_in(fields)):
        return value
    config = _read_mapping(Path(value))
    return config[key] if config.keys() == {key} else config


def _is_text(fields: Iterable[FieldInfo]) -> bool:
    return any({str, Path} & {each.annotation, *get_args(each.annotation)} for each in fields)
