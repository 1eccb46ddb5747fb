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

from features.config_errors import describe, describe_yaml, kind_of, models_in
from features.errors import InputError
from features.media.limits import DecodeLimits
from flows.keys.help import known_keys
from flows.keys.signature import keys_model
from flows.keys.strict_yaml import parse_yaml
from models.heads import AnyHeadConfig
from models.training.config import TrainConfig
from models.training.old_keys import OLD_KEYS as OLD_CONFIG_KEYS
from models.training.old_keys import OLD_STREAMS, move_old_keys

RENAMED = {"max_rows_apart": "max_length_mismatch", "rows": "variants"}  # of the stages
OLD_KEYS = {**RENAMED, **dict.fromkeys(OLD_STREAMS, "streams"), **OLD_CONFIG_KEYS}
"""The new name of each old key. A file may still have the old one; the command line may not."""
CONFIGS_BY_KEY = {
    "head": models_in(AnyHeadConfig),
    "train": [TrainConfig],
    "limits": [DecodeLimits],
}
"""The configs that can be imported in a moment."""
YAML_SUFFIXES = (".yaml", ".yml")


def settings(function: Callable, config: Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    """The arguments to call a stage with, defaults included; raises as `checked_keys`."""
    checked = checked_keys(function, config, overrides)
    return {name: getattr(checked, name) for name in type(checked).model_fields}


def check_key_names(overrides: Iterable[str]) -> None:
    """Raise `InputError` for a key that no stage has, without importing a stage.

    The modules of a stage take seconds to import (tested in test_main.py), and so do the configs of
    encoders and baselines: keys inside those are checked with the stage.
    """
    for override in overrides:
        key = _parse(override)[0]
        first, *inner = key.split(".")
        _check_known(first)
        models = CONFIGS_BY_KEY.get(first, [])
        for depth, part in enumerate(inner, 1):
            names = dict.fromkeys(name for model in models for name in model.model_fields)
            if names and part not in names and key not in OLD_KEYS:
                unknown = ".".join([first, *inner[:depth]])
                raise InputError(f"unknown key {unknown!r}; {_nearest(part, names)}")
            models = _models_in(_fields(models, part))


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
    for key in from_file:
        _check_known(key, f"{config}: ")
    given = {}
    for key, value in _move_old_keys({**deepcopy(dict(base)), **from_file}).items():
        if key in model.model_fields:
            given[key] = _config_value(value, key, [model.model_fields[key]])
    given = _move_old_keys(given)  # those of a file that was given for the head
    # outer keys before the keys inside them, and `kind` first: it determines the others' defaults
    parsed = [_parse(override) for override in overrides]
    for key, value in sorted(parsed, key=lambda p: (p[0].count("."), not p[0].endswith(".kind"))):
        _check_override(key, model)
        _set(given, key, value, model)
    try:
        return model.model_validate(_move_old_keys(given))
    except ValidationError as error:
        raise InputError(describe(error, model)) from None


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        keys = parse_yaml(path.read_text(encoding="utf-8"))
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


def _check_known(key: str, prefix: str = "") -> None:
    """Raise `InputError` for a key that no stage has."""
    if key not in known_keys() and key not in OLD_KEYS:
        raise InputError(f"{prefix}unknown key {key!r}; {_nearest(key, known_keys())}")


def _nearest(key: str, names: Iterable[str]) -> str:
    near = get_close_matches(str(key), list(names), n=1, cutoff=0.0)[0]
    return f"the nearest valid one is {near!r}"


def _parse(override: str) -> tuple[str, str]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"{override!r} is no override; write key=value, such as train.epochs=5")
    return key, text


def _check_override(key: str, model: type[BaseModel]) -> None:
    """Raise `InputError` for an old name, and for a key of other stages only."""
    new = OLD_KEYS.get(key, "")
    if new.split(".")[0] in model.model_fields:
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
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"the value of '{key}={text}' is not YAML: {describe_yaml(error)}"
        ) from None


def _index(node: Any, part: str, key: str) -> Any:
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
    """What the default of a config sets, as YAML has it; the preset of a head sets the rest."""
    for each in fields:
        default = each.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, BaseModel):
            kind = kind_of(type(default))
            return default.model_dump(mode="json", exclude_unset=True) | (
                {"kind": kind} if kind else {}
            )
    return {}


def _config_value(value: Any, key: str, fields: Sequence[FieldInfo]) -> Any:
    """The value, or the content of the YAML file that is given in place of a config."""
    if not (isinstance(value, str) and value.endswith(YAML_SUFFIXES) and _models_in(fields)):
        return value
    config = _read_mapping(Path(value))
    return config[key] if config.keys() == {key} else config


def _is_text(fields: Iterable[FieldInfo]) -> bool:
    return any({str, Path} & {each.annotation, *get_args(each.annotation)} for each in fields)
