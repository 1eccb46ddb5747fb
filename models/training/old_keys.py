"""Keys of configs that earlier versions wrote elsewhere, under another name, or not at all.

Until version 0.1 the loss was configured in the head. Run folders, checkpoints and the YAML files
of users may still have the old keys.
"""

from collections.abc import Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any

from pydantic import JsonValue

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
    | {"head.asks": "head.query", "head.query_modality": "head.query"}
)
"""Old key -> the key that replaces it. Of several old ones the first was in the keys of runs."""

OLD_VALUES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "head.query": {"image": "visual", "both": "all"},
        "head.gate_partner": {"audio": "others", "visual": "first", "image": "first"},
    }
)
"""Key -> {old value -> the value that replaces it}; the last was in the keys of runs."""

OLD_STREAMS = ("visual", "audio")
"""Keys of a stage that named the feature set of each of the only two streams."""

NEW_KEYS: Mapping[str, JsonValue] = MappingProxyType(
    {
        "head.pooling": "mean",
        "head.prior": "none",
        "head.residual": "fused",
        "head.text_stream": "visual",
        "head.prompts.control": "none",
        "head.fusion_dropout": None,
        "head.attention_init": "linear",
        "train.select": "val",
        "train.inner_share": 0.2,
        "train.min_delta": 0.0,
        "train.drop_last": False,
        "train.schedule": "cosine",
        "train.causal_stride_s": None,
        "train.causal_start_s": 0.0,
        "train.stream_dropout": 0.0,
        "train.smooth": False,
        "train.set_weights": {},
        "train.label_maps": {},
    }
)
"""Key that version 0.1 lacks -> the value that means what 0.1 did, whatever the default is.

A key with this value is left out of the key of a run, so that older runs keep theirs. Add every
new key of a head or a training here.
"""

NEW_TRAIN_KEYS: Mapping[str, JsonValue] = MappingProxyType(
    {
        key.removeprefix("train."): value
        for key, value in NEW_KEYS.items()
        if key.startswith("train.")
    }
)
"""Those of `train`, without their section."""

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


def complete_train(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the keys of `train`, in which a config of version 0.1 means what it meant then.

    With `patience` and without `select`, training stops by the val split. A config written in full
    also gets the other keys that are newer, so that no preset sets them.
    """
    if "select" in fields or fields.get("patience") is None:
        return dict(fields)
    if not fields.keys() >= KEYS_OF_0_1:
        return {"select": "val", **fields}
    return {**NEW_TRAIN_KEYS, **fields}


def move_old_keys(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the keys of a stage or a run, with old keys and values replaced.

    Raises `ValueError` if an old key and the one that replaces it are both given.
    """
    moved = deepcopy(dict(fields))
    if names := {key: moved.pop(key) for key in OLD_STREAMS if key in moved}:
        if "streams" in moved:
            raise ValueError(f"streams replaces {' and '.join(names)}: leave it out")
        moved["streams"] = {key: names.get(key) for key in OLD_STREAMS}
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
    for key, value in NEW_KEYS.items():
        inner, name = _section(old, key)
        if inner is not None and name in inner and inner[name] == value:
            del inner[name]
    for key, values in OLD_VALUES.items():
        section, name = key.split(".")
        if name in old[section]:
            before = {new: value for value, new in values.items()}
            old[section][name] = before.get(old[section][name], old[section][name])
    for key, replacement in OLD_KEYS.items():
        _move(old, replacement, key)
    if not old["train"].get("loss"):  # a key that is newer stays, and is part of the run
        old["train"].pop("loss", None)
    return old


def _section(fields: dict[str, Any], key: str) -> tuple[dict[str, Any] | None, str]:
    """The innermost section of a dotted key, None if it is missing, and the name in it."""
    *sections, name = key.split(".")
    inner: Any = fields
    for section in sections:
        inner = inner.get(section) if isinstance(inner, dict) else None
    return (inner if isinstance(inner, dict) else None), name


def _move(fields: dict[str, Any], source: str, target: str) -> None:
    inner, name = _section(fields, source)
    if inner is None or name not in inner:
        return
    value = inner.pop(name)
    *sections, name = target.split(".")
    inner = fields
    for section in sections:
        inner = inner.setdefault(section, {})
    if name in inner:
        raise ValueError(f"{source} is the old name of {target}, and both are given: leave one out")
    inner[name] = value
