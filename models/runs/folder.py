"""The folder of a run: its files, its config and the digests of its inputs."""

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from pydantic import AliasChoices, Field, JsonValue, ValidationError, model_validator

from features.canonical_json import JsonObject, canonical_sha256
from features.config import Config
from features.config_errors import describe, describe_yaml
from features.errors import InputError, LaterVersion
from features.system.files import check_writable, write_atomic, write_if_changed
from features.system.provenance import git_changes, provenance
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from models.data.data_sets import Manifests, Stores
from models.data.stream_names import StreamName, Streams
from models.heads import AnyHeadConfig
from models.runs.code import code_of
from models.training.config import EpochResult, TrainConfig, train_of_0_1
from models.training.old_keys import OLD_STREAMS, move_old_keys, with_old_keys

FAST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # that in C is six times faster
CONFIG = "config.yaml"
HEAD_FILE = "head.safetensors"
METRICS = "metrics.jsonl"
PROVENANCE = "provenance.json"
TRAINING = "training"
"""The folder of a training that has not ended; removed at its end."""
LAST = "last.pt"
"""In it, the state to go on from."""
CHANGES = "changes.patch"
"""The difference of the checkout from its commit, if there is one."""
PROMPTS = "prompts.json"
TEXTS_ALONE = "texts_alone.json"
SCORES = "scores.json"
CLIPS = "clips.json"
PREDICTIONS = "predictions.csv"
SUBMISSION = "submission.txt"
REPORT = "report.html"
BASELINES = "baselines.json"
"""Where a report looks for the scores of baselines; `run baselines output=...` writes them."""
VAL_PREDICTIONS = "val.npz"
"""The val predictions of a run of an ablation, and the key of their inputs."""
ENSEMBLE = "ensemble.json"
EXPORTED = "head.json"
"""In the folder of an exported head, which is no run, its description."""
INPUTS = "inputs"
"""In an ensemble's folder, a link to the folder of the manifest; it is created first."""
OUTPUT_FILES = (
    ENSEMBLE,
    HEAD_FILE,
    CHANGES,
    PROMPTS,
    TEXTS_ALONE,
    CLIPS,
    SCORES,
    PREDICTIONS,
    SUBMISSION,
    REPORT,
)
"""The files that a new head makes stale, in the order in which they are deleted.

A file that commits others comes before them: the head for a run, `ensemble.json` for an ensemble,
`clips.json` for a scoring. So if the process is killed in between, no file of an earlier head
passes for a file of the new one (tests/models/runs/test_folder.py).
"""


class RunConfig(Config):
    """The keys of `vaflow run train-head`."""

    manifest: Manifests
    store: Stores
    run: Path
    head: AnyHeadConfig
    train: TrainConfig
    streams: Streams | None = None
    max_length_mismatch: LengthMismatch = Field(
        default=MAX_LENGTH_MISMATCH,
        validation_alias=AliasChoices("max_length_mismatch", "max_rows_apart"),  # before 0.2.0
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_old_keys(cls, fields: object) -> object:
        return move_old_keys(fields) if isinstance(fields, dict) else fields


class SetUsed(Config):
    """A feature set that a run reads."""

    name: str
    digest: str
    """sha256 of the spec."""
    records_sha256: str
    """Digest of the records of the clips."""


class Inputs(Config):
    """Digests of all inputs of a training; equal inputs and config give an equal head."""

    streams: dict[StreamName, SetUsed]
    """In the order of the streams."""
    clips: dict[str, list[str]]
    """Ids by split."""
    labels_sha256: str
    texts_sha256: str | None
    """Digest of the region descriptions."""
    subjects_sha256: str | None = None
    """Digest of who is in which clip, if something is chosen by folds over people."""


def run_key(config: RunConfig, inputs: Inputs, code: str | None = None) -> str:
    """Return the sha256 of everything that determines the head; excludes paths and devices.

    `code` is the digest of the code; None gives the key of a run that recorded none.
    """
    not_decisive = {"device", "threads", "log_to"}
    not_decisive |= {"unlabelled", "transductive"}  # inputs names the clips
    if config.train.unlabelled is None:
        not_decisive |= {"pseudo_labels", "pseudo_weight"}
    if config.train.bank_mib is None:  # a limit may change the order of windows
        not_decisive.add("bank_mib")
    digests = inputs.model_dump(
        mode="json", exclude=set() if inputs.subjects_sha256 else {"subjects_sha256"}
    )
    streams = digests.pop("streams")
    if tuple(streams) == OLD_STREAMS:
        digests |= streams  # as earlier versions wrote them
    else:
        digests["streams"] = list(streams.items())
    decisive: dict[str, JsonValue] = {
        **with_old_keys(
            config.head.model_dump(mode="json"),
            config.train.model_dump(mode="json", exclude=not_decisive),
        ),
        "inputs": digests,
        "max_rows_apart": MAX_LENGTH_MISMATCH,  # constant, so that older runs keep their key
    }
    return canonical_sha256(decisive | ({"code": code} if code else {}))


def key_of_0_1(config: RunConfig, given: TrainConfig, inputs: Inputs) -> str | None:
    """Return the key that version 0.1 gave to a run with the `given` keys of `train`.

    None if `select` is among them, as 0.1 had only one way to select an epoch.
    """
    if "select" in given.model_fields_set:
        return None
    return run_key(config.model_copy(update={"train": train_of_0_1(given)}), inputs)


def replaces_run_of_0_1(run: Path) -> str:
    """Return the message for a finished run that an unchanged config would now replace."""
    return (
        f"run = {run} was trained with these keys by an earlier version, which kept the epoch that "
        "was best on val and stopped after 5 epochs without a better one; now the last epoch is "
        "kept: give train.select=val train.patience=5 to keep the run, or train.select=last to "
        "replace it"
    )


def write_config(config: RunConfig, folder: Path | None = None) -> None:
    """Write the resolved config to a folder, by default the run's, so that `-c` repeats the run."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode()
    write_if_changed((folder or config.run) / CONFIG, text)


def _load_yaml(text: str) -> Any:
    """Return the content; the loader in C reads no escapes of names that are not UTF-8."""
    try:
        return yaml.load(text, FAST_LOADER)
    except yaml.YAMLError:
        return yaml.safe_load(text)


def read_config(run: Path, kind: type[RunConfig] = RunConfig) -> RunConfig:
    """Return the config of a run; raises `InputError` if it is missing or cannot be read."""
    path = run / CONFIG
    try:
        return kind.model_validate(_load_yaml(path.read_text(encoding="utf-8")))
    except OSError:
        raise InputError(
            f"{run} is not the folder of a run (no {CONFIG}); run train-head first"
        ) from None
    except yaml.YAMLError as error:
        why = describe_yaml(error)
    except UnicodeDecodeError:
        why = "it is not UTF-8 text"
    except ValidationError as error:
        why = describe(error, kind) if error.errors()[0]["loc"] else "it holds no keys"
    stage = "train-head" if kind is RunConfig else "train-ensemble"
    raise InputError(f"{path} is not a config of {stage}: {why}; train again")


def check_run(run: Path) -> None:
    """Raise `InputError` if the folder cannot hold a head, or holds something else."""
    check_writable(run, "run")
    names = {path.name for path in run.iterdir()} if run.is_dir() else set()
    if holds_ensemble(run):
        raise InputError(f"run = {run} holds an ensemble; give another folder, or a member's")
    if names and not names & {PROVENANCE, HEAD_FILE, TRAINING}:
        raise InputError(
            f"run = {run} holds files that do not belong to a run; give another folder"
        )


def holds_ensemble(run: Path) -> bool:
    """Return whether the folder is that of an ensemble, finished or not."""
    return (run / ENSEMBLE).exists() or (run / INPUTS).is_symlink()


def link_manifest_root(run: Path, root: Path) -> None:
    """Link `root`, to which the paths in an ensemble's manifests are relative."""
    link = run / INPUTS
    if not link.is_symlink():
        link.symlink_to(root, target_is_directory=True)
    elif link.readlink() != root:
        new = link.with_name(f".{INPUTS}.part")
        new.unlink(missing_ok=True)
        new.symlink_to(root, target_is_directory=True)
        new.replace(link)


def check_ensemble(run: Path) -> None:
    """Raise `InputError` if the folder cannot hold an ensemble, or holds something else."""
    check_writable(run, "run")
    names = {path.name for path in run.iterdir()} if run.is_dir() else set()
    if names and not holds_ensemble(run):
        what = "a single head" if HEAD_FILE in names else "files that do not belong to an ensemble"
        raise InputError(f"run = {run} holds {what}; give another folder")


def delete_outputs(run: Path) -> None:
    """Delete the output files of an earlier head or ensemble."""
    for name in OUTPUT_FILES:
        (run / name).unlink(missing_ok=True)


def start_run(config: RunConfig, inputs: Inputs, facts: JsonObject) -> None:
    """Replace the files of an earlier model in the folder by the provenance and the config.

    The provenance is written first, because it marks the folder as a run's.
    """
    from features.system.devices import torch_device  # imports torch, which readers do without

    config.run.mkdir(parents=True, exist_ok=True)
    delete_outputs(config.run)
    if patch := git_changes():
        write_atomic(config.run / CHANGES, patch)
    made_by = {
        "inputs": inputs.model_dump(mode="json"),
        "seed": config.train.seed,
        "device": str(torch_device(config.train.device)),
        "started_as": shlex.join(sys.orig_argv),
        "code": code_of(config.head),
    }
    write_json(config.run / PROVENANCE, provenance() | made_by | facts)
    write_config(config)


def write_metrics(run: Path, epochs: Sequence[EpochResult]) -> None:
    """Write one JSON object per epoch; but for the seconds, equal runs give equal files."""
    written = (asdict(epoch) for epoch in epochs)
    lines = "".join(
        json.dumps({key: value for key, value in each.items() if value is not None}) + "\n"
        for each in written
    )
    write_atomic(run / METRICS, lines.encode())


def read_metrics(run: Path) -> tuple[EpochResult, ...]:
    """Return the epochs of a finished run."""
    lines = (run / METRICS).read_text(encoding="utf-8").splitlines()
    return tuple(EpochResult(**json.loads(line)) for line in lines)


def read_json(path: Path, remedy: str) -> JsonObject:
    """Return the object in a JSON file; empty if there is no file or it holds another value.

    Raises `InputError` with the remedy if the file is not JSON.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); {remedy}") from None
    return value if isinstance(value, dict) else {}


def check_format(path: Path, what: str, found: Any, known: str, stage: str) -> None:
    """Raise `LaterVersion` if the format of a file is another one than the known one."""
    if found != known:
        raise LaterVersion(
            f"{path} is {what} of format {found!r}, this vaflow reads {known!r}; use the vaflow "
            f"that wrote it, give another folder, or replace it with `run {stage}` and force=true"
        )


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write an indented JSON file, whole or not at all."""
    write_atomic(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
