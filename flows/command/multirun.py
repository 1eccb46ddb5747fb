"""`vaflow run train-head ... key=a,b --multirun`: every combination of several values of keys."""

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from itertools import product
from pathlib import Path

import yaml

from features.errors import InputError

SECTIONS = ("head", "train")
"""Keys of a grid are these, or inside them."""
LONGEST_NAME = 120
DIGEST_LENGTH = 8
_LEFT_OUT = dict.fromkeys(map(ord, "[]{}\"' "))
_UNSAFE = re.compile(r"[^\w.+=,-]+", re.ASCII)
_BRACKETS = {"[": 1, "{": 1, "]": -1, "}": -1}


def choices_of(override: str) -> list[str]:
    """Return the values of `key=a,b`, split at the commas outside of quotes and brackets.

    A key that cannot vary in a grid has one value, such as a path with a comma.
    """
    key, _, text = override.partition("=")
    if key.split(".")[0] not in SECTIONS:
        return [text]
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        depth += 0 if quote else _BRACKETS.get(letter, 0)
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def check_single(overrides: Sequence[str]) -> None:
    """Raise `InputError` for a key with several values, in a run that is no grid."""
    for override in overrides:
        if len(choices_of(override)) > 1:
            key, _, text = override.partition("=")
            raise InputError(
                f"{override!r} gives several values: for a run of train-head with each of them add "
                f"--multirun; write {key}=[{text}] for a list, and quotes around a text with commas"
            )


def combinations(overrides: Sequence[str]) -> list[tuple[str, dict[str, str], list[str]]]:
    """Return the folder, the own values as texts, and the overrides of each combination.

    The last key varies fastest. Raises `InputError` if no key has several values, or one is empty.
    """
    keys = [override.partition("=")[0] for override in overrides]
    values = [list(dict.fromkeys(choices_of(each))) for each in overrides]
    varying = [key for key, texts in zip(keys, values, strict=True) if len(texts) > 1]
    if not varying:
        raise InputError(
            "--multirun trains with every combination of several values, and no key inside head or "
            "train has several: write them with commas, such as train.loss.sigma=0.2,0.3"
        )
    if twice := next((key for key in varying if keys.count(key) > 1), None):
        raise InputError(f"{twice!r} is given twice: give all of its values at once")
    for key, texts in zip(keys, values, strict=True):
        if len(texts) > 1 and not all(text.strip() for text in texts):
            raise InputError(f"{key!r} has an empty value between its commas: leave it out")
    found = []
    for chosen in product(*values):
        own = {key: text for key, text in zip(keys, chosen, strict=True) if key in varying}
        every = [f"{key}={text}" for key, text in zip(keys, chosen, strict=True)]
        found.append((_folder(own), own, every))
    return found


def _folder(own: dict[str, str]) -> str:
    """The name of the folder of a combination: its keys and values, with a digest if changed."""
    whole = ",".join(f"{key}={text}" for key, text in own.items())
    name = _UNSAFE.sub("-", whole.translate(_LEFT_OUT))
    if name == whole and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{sha256(whole.encode()).hexdigest()[:DIGEST_LENGTH]}"


def multirun(config: Path | None, overrides: Sequence[str], workers: int | None) -> Callable:
    """Return the function that trains the grid, given the hook `on_case`.

    The keys of every combination are checked first; raises `InputError` as for a single run.
    """
    from flows.keys.settings import settings
    from flows.stage_functions import stage_function
    from models.runs.folder import RunConfig
    from models.stages.grid import Grid, train_grid

    function, configs = stage_function("train-head"), []
    for folder, own, every in combinations(overrides):
        keys = settings(function, config, every)
        if keys.pop("force"):
            raise InputError(
                "force trains again what is there, and --multirun keeps what is there: delete the "
                "folders of the runs to train again, or leave force out"
            )
        values = {key: yaml.safe_load(text) for key, text in own.items()}
        configs.append((folder, values, RunConfig(**keys)))

    def grid(on_case: Callable[[str, int], None] | None = None) -> Grid:
        return train_grid(configs, configs[0][2].run, workers, on_case)

    return grid
