"""The settings of runs as flat keys, as on the command line, and what differs between runs."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from models.runs.folder import RunConfig

Settings = Mapping[str, JsonValue]
"""Dotted keys, such as `head.width`, and their values."""

OF_THE_PLACE = {"run": True, "store": True, "train": {"device": True, "threads": True}}
"""Keys that say where a training ran, and not what it did."""


def settings_of(config: RunConfig) -> Settings:
    """Return the keys of a run with their values, without those in `OF_THE_PLACE`."""
    return dict(_flat("", config.model_dump(mode="json", exclude=OF_THE_PLACE)))  # pyright: ignore[reportArgumentType]


def _flat(path: str, value: Any) -> Iterator[tuple[str, JsonValue]]:
    """A section is descended into, unless it is empty."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{path}.{key}".lstrip("."), inner)
    else:
        yield path, value


def most_common(runs: Sequence[Settings]) -> Settings:
    """Return each key of any of the runs with the value that most of them have.

    Of values that are equally frequent it is that of the first run.
    """
    found: dict[str, JsonValue] = {}
    for key in dict.fromkeys(key for run in runs for key in run):
        values = [run[key] for run in runs if key in run]
        counts = Counter(as_text(value) for value in values)  # a list is not hashable
        most = max(counts.values())
        found[key] = next(value for value in values if counts[as_text(value)] == most)
    return found


def changed_settings(run: Settings, reference: Settings) -> Settings:
    """Return the keys of a run whose values differ from those of the reference.

    A key that the reference lacks counts, unless it belongs to a section of another `kind`, which
    has keys of its own.
    """
    return {
        key: value
        for key, value in run.items()
        if (reference[key] != value if key in reference else not _is_of_kind(key, run, reference))
    }


def _is_of_kind(key: str, run: Settings, reference: Settings) -> bool:
    """Whether a section around the key has another kind than in the reference."""
    parts = key.split(".")
    kinds = (".".join([*parts[:n], "kind"]) for n in range(1, len(parts)))
    return any(kind in run and kind in reference and run[kind] != reference[kind] for kind in kinds)


def as_text(value: JsonValue) -> str:
    """Return the value as it is given on the command line."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
