"""Whether a run's folder holds the head that a training would give, and why not."""

from collections.abc import Iterator
from pathlib import Path

from features.canonical_json import differences
from features.errors import InputError, LaterVersion, list_names
from models.runs.checkpoint import read_meta
from models.runs.code import code_of
from models.runs.folder import (
    HEAD_FILE,
    METRICS,
    PROVENANCE,
    Inputs,
    RunConfig,
    read_config,
    read_json,
    read_metrics,
    run_key,
)
from models.training.config import EpochResult

WITHOUT_CODE = (
    "this run is of a version that did not record its code, which may have given other numbers: "
    "train it again with force=true"
)
"""The note on a finished run whose code is not known."""
NOT_DECISIVE = {  # of manifest and store, the digests of what they hold decide
    "manifest": True,
    "store": True,
    "run": True,
    "train": {"log_to"},
}


def read_finished(run: Path, key: str) -> tuple[EpochResult, ...]:
    """Return the epochs of the run with this key, if it is finished; else none."""
    if not (run / HEAD_FILE).is_file() or not (run / METRICS).is_file():
        return ()
    try:
        return read_metrics(run) if read_meta(run / HEAD_FILE).key == key else ()
    except LaterVersion:
        raise  # not to be replaced
    except (InputError, ValueError, TypeError):
        return ()  # damaged, or of another version: train again


def reason_to_train(config: RunConfig, inputs: Inputs) -> str:
    """Return what differs from the finished run in the folder, in words; empty if there is none.

    The run must have another key than this config and these inputs would give it.
    """
    run = config.run
    if not (run / HEAD_FILE).is_file():
        return ""
    try:
        meta, before = read_meta(run / HEAD_FILE), read_config(run)
    except InputError as error:
        return f"the head there cannot be read ({error})"
    made_by = read_json(run / PROVENANCE, "train again")
    if meta.code and run_key(config, inputs, meta.code) == meta.key:
        recorded = made_by.get("code")
        changed = list(_changed(recorded, code_of(config.head)))
        return f"the code that makes the numbers changed{_listed(changed)}"
    old, new = (each.model_dump(mode="json", exclude=NOT_DECISIVE) for each in (before, config))
    settings = [f"{each.field} {each.old} -> {each.new}" for each in differences("", old, new)]
    if settings:
        return f"the settings changed{_listed(settings)}"
    changed = list(_changed(made_by.get("inputs"), inputs.model_dump(mode="json")))
    return f"the inputs changed{_listed(changed)}"


def _changed(old: object, new: object) -> Iterator[str]:
    return (each.field for each in differences("", old if isinstance(old, dict) else {}, new))


def _listed(names: list[str]) -> str:
    return f": {list_names(names)}" if names else ""
