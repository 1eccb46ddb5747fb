"""The settings of runs as flat keys, as on the command line, and what differs between runs."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from models.runs.folder import RunConfig

Settings = Mapping[str, JsonValue]
"""Dotted keys, such as `head.width`, and their values."""

OF_THE_PLACE = {
    "run": True,
    "store": True,
    "train": {"device": True, "threads": True, "log_to": True},
}
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
    """Return the keys of the runs with the value that most have; of equally common ones, the first.

    A key that most lack is left out; a run whose section is of another `kind` does not count.
    """
    found: dict[str, JsonValue] = {}
    for key in dict.fromkeys(key for run in runs for key in run):
        holder = next(run for run in runs if key in run)
        peers = [run for run in runs if key in run or not _is_of_other_kind(key, run, holder)]
        texts = [as_text(run[key]) if key in run else None for run in peers]  # lists have no hash
        most, _ = Counter(texts).most_common(1)[0]  # the first of equals
        if most is not None:
            found[key] = peers[texts.index(most)][key]
    return found


def changed_settings(run: Settings, reference: Settings) -> Settings:
    """Return the keys of a run whose values differ from those of the reference.

    A key that the reference lacks counts, unless it belongs to a section of another `kind`, which
    has keys of its own.
    """
    return {
        key: value
        for key, value in run.items()
        if (
            reference[key] != value
            if key in reference
            else not _is_of_other_kind(key, run, reference)
        )
    }


def _is_of_other_kind(key: str, one: Settings, other: Settings) -> bool:
    """Whether a section around the key has another kind in one than in the other."""
    parts = key.split(".")
    kinds = (".".join([*parts[:n], "kind"]) for n in range(1, len(parts)))
    return any(kind in one and kind in other and one[kind] != other[kind] for kind in kinds)


def as_text(value: JsonValue) -> str:
    """Return the value as it is given on the command line."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
