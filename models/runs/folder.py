"""A run's folder: the config that made it, what it read, what is stale when it is made again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator

from features.canonical_json import canonical
from features.config_errors import describe, describe_yaml
from features.errors import InputError
from features.system.files import check_writable, write_atomic, write_if_changed
from features.timeline import MAX_ROWS_APART, RowsApart
from models.heads import AnyHeadConfig
from models.runs.checkpoint import FILE
from models.training.config import EpochResult, TrainConfig
from models.training.old_keys import move_old_keys, with_old_keys

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
PROVENANCE = "provenance.json"
REPORT = "report.html"
ENSEMBLE = "ensemble.json"
INPUTS = "inputs"
"""In an ensemble's folder: a link to the folder of the manifest, and the first thing there."""
OUTPUT_FILES = (
    FILE,
    "prompts.json",
    "scores.json",
    "clips.json",
    "predictions.csv",
    "submission.txt",
    REPORT,
)
"""What a new head makes stale; the head itself first, for it is the commit."""


class RunConfig(BaseModel):
    """The keys of `vaflow run train-head`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: Path
    store: str
    run: Path
    head: AnyHeadConfig
    train: TrainConfig
    visual: str | None = None
    audio: str | None = None
    max_rows_apart: RowsApart = MAX_ROWS_APART

    @model_validator(mode="before")
    @classmethod
    def _accept_old_keys(cls, fields: object) -> object:
        return move_old_keys(fields) if isinstance(fields, dict) else fields


class SetUsed(BaseModel):
    """A feature set as a run read it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str
    """sha256 of the spec."""
    records_sha256: str
    """Over what the store held of the clips."""


class Inputs(BaseModel):
    """Digests of all that a training reads: equal inputs and config give an equal head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    visual: SetUsed
    audio: SetUsed
    clips: dict[str, list[str]]
    """Ids by split."""
    labels_sha256: str
    texts_sha256: str | None
    """Of the region texts; None for a head without prompts."""


def run_key(config: RunConfig, inputs: Inputs) -> str:
    """sha256 of everything that decides the head; where it runs and lies does not."""
    not_decisive = {"device", "threads"}
    if config.train.bank_mib is None:  # else it may decide the order of windows
        not_decisive.add("bank_mib")
    decisive: dict[str, JsonValue] = {
        **with_old_keys(
            config.head.model_dump(mode="json"),
            config.train.model_dump(mode="json", exclude=not_decisive),
        ),
        "inputs": inputs.model_dump(mode="json"),
        "max_rows_apart": config.max_rows_apart,
    }
    return hashlib.sha256(canonical(decisive)).hexdigest()


def write_config(config: RunConfig) -> None:
    """Put the resolved config into the run's folder, so that `-c` repeats the run."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode()
    write_if_changed(config.run / CONFIG, text)


def read_config(run: Path, kind: type[RunConfig] = RunConfig) -> RunConfig:
    """The config of a run; `InputError` where the folder has none that can be read."""
    path = run / CONFIG
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError:
        raise InputError(f"{run} is no run's folder (no {CONFIG}); run train-head first") from None
    except yaml.YAMLError as error:
        why = describe_yaml(error)
    except UnicodeDecodeError:
        why = "it is no text in UTF-8"
    except ValidationError as error:
        why = describe(error, kind) if error.errors()[0]["loc"] else "it holds no keys"
    stage = "train-head" if kind is RunConfig else "train-ensemble"
    raise InputError(f"{path} is no config of {stage}: {why}; train again")


def check_run(run: Path) -> None:
    """Raise where a head cannot be put; `InputError` where other things lie."""
    check_writable(run, "run")
    found = {path.name for path in run.iterdir()} if run.is_dir() else set()
    if holds_ensemble(run):
        raise InputError(f"run = {run} holds an ensemble; give another folder, or a member's")
    if found and not found & {PROVENANCE, FILE}:
        raise InputError(f"run = {run} holds files that are no run's; give another folder")


def holds_ensemble(run: Path) -> bool:
    """Whether the folder is that of an ensemble, whole or begun."""
    return (run / ENSEMBLE).exists() or (run / INPUTS).is_symlink()


def link_manifest_root(run: Path, root: Path) -> None:
    """Let the paths of manifests in an ensemble's folder lead to the media and labels in `root`."""
    link = run / INPUTS
    if not link.is_symlink():
        link.symlink_to(root, target_is_directory=True)
    elif link.readlink() != root:
        new = link.with_name(f".{INPUTS}.part")
        new.unlink(missing_ok=True)
        new.symlink_to(root, target_is_directory=True)
        new.replace(link)


def check_ensemble(run: Path) -> None:
    """Raise where an ensemble cannot be put; `InputError` where other things lie."""
    check_writable(run, "run")
    found = {path.name for path in run.iterdir()} if run.is_dir() else set()
    if found and not holds_ensemble(run):
        held = "a single head" if FILE in found else "files that are no ensemble's"
        raise InputError(f"run = {run} holds {held}; give another folder")


def delete_outputs(run: Path) -> None:
    """Take away what belongs to an older head or ensemble."""
    for name in (ENSEMBLE, *OUTPUT_FILES):
        (run / name).unlink(missing_ok=True)


def write_metrics(run: Path, epochs: Sequence[EpochResult]) -> None:
    """One JSON object per epoch, to the last digit; no times: equal runs are equal files."""
    lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs)
    write_atomic(run / METRICS, lines.encode())


def read_metrics(run: Path) -> tuple[EpochResult, ...]:
    """The epochs of a finished run."""
    lines = (run / METRICS).read_text(encoding="utf-8").splitlines()
    return tuple(EpochResult(**json.loads(line)) for line in lines)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """A JSON file for people: indented, whole or not at all."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
