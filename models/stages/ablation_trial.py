"""One training of an ablation, and its predictions of the val split."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from features.errors import VaflowError
from features.system.files import write_atomic
from models.heads import AnyHeadConfig
from models.runs.folder import VAL_PREDICTIONS
from models.runs.run_split import open_split, read_split
from models.stages.train_head import train_head
from models.training.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Trial:
    """The arguments of `run_trial`, for another process."""

    run: Path
    manifest: Path
    store: str
    visual: str | None
    audio: str | None
    max_length_mismatch: int
    head: AnyHeadConfig
    train: TrainConfig


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The result of a trial."""

    va: Float64[np.ndarray, "N 2"] | None
    """Predictions of every row of the val split; None if the training failed."""
    trained: bool
    """False if the run was finished before."""
    failure: str = ""


def run_trial(trial: Trial) -> TrialResult:
    """Train a head, unless its run is finished, and predict the val split.

    An error is returned, not raised, so that other trials continue.
    """
    try:
        result = train_head(
            manifest=trial.manifest,
            store=trial.store,
            run=trial.run,
            head=trial.head,
            train=trial.train,
            visual=trial.visual,
            audio=trial.audio,
            max_length_mismatch=trial.max_length_mismatch,
        )
        return TrialResult(_predict_val(trial.run), result.state == "trained")
    except (VaflowError, OSError, RuntimeError) as error:  # torch raises RuntimeError out of memory
        return TrialResult(None, False, str(error))


def _predict_val(run: Path) -> Float64[np.ndarray, "N 2"]:
    """Return the predictions of the val split, read from the run's folder if possible."""
    source = open_split(run, None, None, "val")
    key, path = source.key(), run / VAL_PREDICTIONS
    if path.is_file() and (va := _read(path, key)) is not None:
        return va
    va = read_split(source).prediction.va
    archive = io.BytesIO()
    np.savez(archive, va=va, key=np.array(key))
    write_atomic(path, archive.getvalue())
    return va


def _read(path: Path, key: str) -> Float64[np.ndarray, "N 2"] | None:
    """Return the predictions in the file; None if the key differs or the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["va"] if str(file["key"]) == key else None
    except (ValueError, KeyError, OSError, EOFError):
        return None
