"""One run as a list of runs shows it: settings, score and code. Imports no torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from features.canonical_json import canonical_sha256
from features.errors import InputError, one_line
from models.runs.code import code_by_module, code_of
from models.runs.folder import (
    CONFIG,
    ENSEMBLE,
    HEAD_FILE,
    METRICS,
    PROVENANCE,
    SCORES,
    TRAINING,
    RunConfig,
    holds_ensemble,
    read_config,
    read_json,
)
from models.runs.settings import Settings, settings_of
from models.training.config import EpochResult, kept_epoch

SPLIT = "val"
FOLD = re.compile(r"fold-\d+")
EPOCH_FIELDS = frozenset(each.name for each in fields(EpochResult))
DIMENSIONS = ("ccc_valence", "ccc_arousal", "ccc_mean")


class _EnsembleConfig(RunConfig):
    folds: int
    over: str


@dataclass(frozen=True, slots=True)
class ListedScore:
    """A score on the val split, or out of fold; the ends of its 95 % intervals may be missing."""

    source: Literal["scores", "training", "out-of-fold", "trainings"]
    """`scores`: of `score-head`, with intervals over subjects; `training`: of the epoch whose
    weights were kept; `out-of-fold`: of an ensemble; `trainings`: the mean over several trainings,
    with intervals over them."""
    ccc_valence: float
    ccc_arousal: float
    ccc_mean: float
    ccc_valence_low: float | None = None
    ccc_valence_high: float | None = None
    ccc_arousal_low: float | None = None
    ccc_arousal_high: float | None = None
    ccc_mean_low: float | None = None
    ccc_mean_high: float | None = None


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A run, or the trainings of a variant that differ in their seed only."""

    name: str
    """Path below the folder that was listed."""
    path: Path
    kind: Literal["run", "ensemble", "member", "trainings"]
    state: Literal["finished", "unfinished", "damaged"]
    note: str = ""
    """What is unfinished or damaged."""
    score: ListedScore | None = None
    trainings: tuple[Path, ...] = ()
    """The folders of the finished trainings of a variant."""
    epochs: int | None = None
    """That have ended."""
    max_epochs: int | None = None
    seconds: float | None = None
    """Of the training; None if it was not recorded."""
    made_at: str | None = None
    git_commit: str | None = None
    code: str | None = None
    """Digest of the code that trained it; None if it was not recorded."""
    is_same_code: bool | None = None
    """Whether that is the code at hand; None if it was not recorded."""
    settings: Settings = field(default_factory=dict)
    """Empty if the config cannot be read."""


def read_listed(path: Path, name: str) -> ListedRun:
    """Return the run in a folder; what is missing or damaged is left out, and noted."""
    faults: list[str] = []
    is_ensemble = holds_ensemble(path)
    is_finished = (path / (ENSEMBLE if is_ensemble else HEAD_FILE)).is_file()
    training = path / TRAINING
    source = training if not is_finished and training.is_dir() else path
    config = None
    if (source / CONFIG).is_file():
        kind = _EnsembleConfig if is_ensemble else RunConfig
        config = _or_fault(faults, read_config, source, kind)
    elif is_finished:
        faults.append(f"{source / CONFIG} is missing")
    epochs, seconds = _or_fault(faults, read_epochs, source / METRICS) or ((), None)
    made_by = _or_fault(faults, read_json, path / PROVENANCE, "train again") or {}
    made_by = made_by if is_finished else {}
    score = _or_fault(faults, _read_score, path) if is_finished else None
    if score is None and epochs:
        kept = kept_epoch(epochs, config.train) if config else epochs[-1]
        score = ListedScore("training", kept.ccc_valence, kept.ccc_arousal, kept.ccc_mean)
    max_epochs = config.train.epochs if config else None
    note = ""
    if not is_finished:
        note = _members(path, config) if is_ensemble else _reached(len(epochs), max_epochs)
    elif training.is_dir():
        note = "a new training in its place is unfinished"
    is_member = bool(FOLD.fullmatch(path.name)) and holds_ensemble(path.parent)
    code = made_by.get("code")
    has_code = isinstance(code, dict)
    return ListedRun(
        name=name,
        path=path,
        kind="ensemble" if is_ensemble else "member" if is_member else "run",
        state="damaged" if faults else "finished" if is_finished else "unfinished",
        note="; ".join(faults) or note,
        score=score,
        epochs=None if is_ensemble else len(epochs),
        max_epochs=None if is_ensemble else max_epochs,
        seconds=seconds,
        made_at=_text(made_by.get("made_at")),
        git_commit=_text(made_by.get("git_commit")),
        code=canonical_sha256(code) if has_code else None,
        is_same_code=code == _code_at_hand(config) if has_code else None,
        settings=_settings(config, is_member=is_member),
    )


def _settings(config: RunConfig | None, *, is_member: bool) -> Settings:
    """The settings of a run; the manifest of a member, which is its fold, is none."""
    found = settings_of(config) if config else {}
    return {key: value for key, value in found.items() if not (is_member and key == "manifest")}


def _or_fault(faults: list[str], read: Any, *arguments: Any) -> Any:
    """What the function returns; None if it finds a fault, which is added to the list."""
    try:
        return read(*arguments)
    except (InputError, OSError) as error:
        faults.append(one_line(error))
    return None


def read_epochs(path: Path) -> tuple[tuple[EpochResult, ...], float | None]:
    """Return the epochs in a file, none if there is no file, and their seconds, if they are there.

    Other keys of a line are left aside. Raises `InputError` if the file is damaged.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        epochs = tuple(
            EpochResult(**{key: line[key] for key in EPOCH_FIELDS & line.keys()}) for line in lines
        )
        n_numbers = sum(isinstance(each.ccc_mean, int | float) for each in epochs)
        if n_numbers < len(epochs):
            raise ValueError("a CCC is no number")
        seconds = [line["seconds"] for line in lines if "seconds" in line]
        return epochs, float(sum(seconds)) if seconds and len(seconds) == len(lines) else None
    except FileNotFoundError:
        return (), None
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}); train again") from None


def _read_score(path: Path) -> ListedScore | None:
    """The score of the val split; that of an ensemble is out of fold if val was not scored."""
    source = "scores"
    entry = read_json(path / SCORES, "score again").get(SPLIT)
    if entry is None:
        source = "out-of-fold"
        entry = read_json(path / ENSEMBLE, "train it again").get("out_of_fold_smoothed")
    if entry is None:
        return None
    try:
        ends = [f"{name}_{end}" for name in DIMENSIONS for end in ("low", "high")]
        values = {name: float(entry[name]) for name in DIMENSIONS}
        values |= {name: float(entry[name]) for name in ends if entry.get(name) is not None}
        return ListedScore(source, **values)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{path / SCORES} holds no score of {SPLIT}; score again") from None


def _code_at_hand(config: RunConfig | None) -> Mapping[str, str]:
    return code_of(config.head) if config else code_by_module()


def _reached(n_epochs: int, max_epochs: int | None) -> str:
    of = f" of {max_epochs}" if max_epochs else ""
    return f"epoch {n_epochs}{of} is reached; the same command goes on from there"


def _members(path: Path, config: _EnsembleConfig | None) -> str:
    n = len([*path.glob(f"fold-*/{HEAD_FILE}")])
    of = f" of {config.folds}" if config else ""
    return f"{n}{of} members are trained; the same command goes on from there"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
