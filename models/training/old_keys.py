"""Keys of configs that earlier versions wrote elsewhere, under another name, or not at all.

Until version 0.1 the loss was configured in the head. Run folders, checkpoints and the YAML files
of users may still have the old keys.
"""

from collections.abc import Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any

OLD_KEYS: Mapping[str, str] = MappingProxyType(
    {
        f"head.{key}": f"train.loss.{key}"
        for key in (
            "ccc",
            "valence_weight",
            "arousal_weight",
            "mse_weight",
            "region_weight",
            "region_labels",
            "sigma",
        )
    }
    | {"head.asks": "head.query_modality"}
)
"""Old key -> the key that replaces it."""

OLD_VALUES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {key: {"image": "visual"} for key in ("head.query_modality", "head.gate_partner")}
)
"""Key -> {old value -> the value that replaces it}."""

KEYS_OF_0_1 = frozenset(
    {
        "epochs",
        "patience",
        "batch_size",
        "learning_rate",
        "weight_decay",
        "warmup",
        "clip_grad_norm",
        "seed",
        "window",
        "stride",
        "causal_stride",
        "mixup",
    }
)
"""The keys of `train` in version 0.1, which wrote all of them to a run's config."""

LATER_KEYS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "head": {"fusion_dropout": None, "attention_init": "linear"},
        "train": {
            "select": "val",
            "inner_share": 0.2,
            "min_delta": 0.0,
            "drop_last": False,
            "schedule": "cosine",
            "causal_stride_s": None,
            "causal_start_s": 0.0,
        },
    }
)
"""Keys that version 0.1 did not have, with the values that stand for what it did."""


def complete_train(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the keys of `train`, in which a config of version 0.1 means what it meant then.

    With `patience` and without `select`, training stops by the val split. A config written in full
    also gets the other keys that are newer, so that no preset sets them.
    """
    if "select" in fields or fields.get("patience") is None:
        return dict(fields)
    if not fields.keys() >= KEYS_OF_0_1:
        return {"select": "val", **fields}
    return {**LATER_KEYS["train"], **fields}


def move_old_keys(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the keys of a stage or a run, with old keys and values replaced.

    Raises `ValueError` if an old key and the one that replaces it are both given.
    """
    moved = deepcopy(dict(fields))
    for old, new in OLD_KEYS.items():
        _move(moved, old, new)
    for key, values in OLD_VALUES.items():
        section, name = key.split(".")
        inner = moved.get(section)
        if isinstance(inner, dict) and isinstance(value := inner.get(name), str):
            inner[name] = values.get(value, value)
    return moved


def with_old_keys(head: Mapping[str, Any], train: Mapping[str, Any]) -> dict[str, Any]:
    """Head and training config as earlier versions wrote them: what the key of a run is made of.

    Keys of runs must not change with the names in a config, or every run would be trained again
    (`test_old_keys.py::test_the_key_of_a_run_is_that_of_the_version_before`).
    """
    old = {"head": deepcopy(dict(head)), "train": deepcopy(dict(train))}
    for key, values in OLD_VALUES.items():
        section, name = key.split(".")
        if name in old[section]:
            before = {new: value for value, new in values.items()}
            old[section][name] = before.get(old[section][name], old[section][name])
    for key, replacement in OLD_KEYS.items():
        _move(old, replacement, key)
    for section, later in LATER_KEYS.items():
        for name, before in later.items():
            if name in old[section] and old[section][name] == before:
                del old[section][name]
    if not old["train"].get("loss"):  # a key that is newer stays, and decides the run
        old["train"].pop("loss", None)
    return old


def _move(fields: dict[str, Any], source: str, target: str) -> None:
    """Moves a value from one dotted key to another, if it is there."""
    *sections, name = source.split(".")
    inner: Any = fields
    for section in sections:
        inner = inner.get(section)
        if not isinstance(inner, dict):
            return
    if name not in inner:
        return
    value = inner.pop(name)
    *sections, name = target.split(".")
    inner = fields
    for section in sections:
        inner = inner.setdefault(section, {})
    if name in inner:
        raise ValueError(f"{source} is the old name of {target}, and both are given: leave one out")
    inner[name] = value
