"""One training of one row, and what it says of the val split: what the table is made of."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from features.errors import VaflowError
from features.system.files import write_atomic
from models.heads import AnyHeadConfig
from models.runs.run_split import open_split, read_split
from models.stages.train_head import train_head
from models.training.config import TrainConfig

FILE = "val.npz"  # in the run's folder: predictions, and the key of what they were made from


@dataclass(frozen=True, slots=True)
class Trial:
    """What `run_trial` needs, and may be sent to another process."""

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
    """How a member ended."""

    va: Float64[np.ndarray, "N 2"] | None
    """Of every row of the val split; None where it failed."""
    trained: bool
    """False where the run was there already."""
    failure: str = ""


def run_trial(member: Trial) -> TrialResult:
    """Train the member, unless its run is there, and predict the val split.

    What goes wrong with one member is told, not raised: the others go on.
    """
    try:
        result = train_head(
            manifest=member.manifest,
            store=member.store,
            run=member.run,
            head=member.head,
            train=member.train,
            visual=member.visual,
            audio=member.audio,
            max_length_mismatch=member.max_length_mismatch,
        )
        return TrialResult(_predicted(member.run), result.state == "trained")
    except (VaflowError, OSError, RuntimeError) as error:  # torch has no memory: RuntimeError
        return TrialResult(None, False, str(error))


def _predicted(run: Path) -> Float64[np.ndarray, "N 2"]:
    """V and A of the val split, from the run's folder where they are there already."""
    source = open_split(run, None, None, "val")
    key, path = source.key(), run / FILE
    if path.is_file() and (found := _read(path, key)) is not None:
        return found
    va = read_split(source).prediction.va
    written = io.BytesIO()
    np.savez(written, va=va, key=np.array(key))
    write_atomic(path, written.getvalue())
    return va


def _read(path: Path, key: str) -> Float64[np.ndarray, "N 2"] | None:
    """The predictions in the file; None where they are of other inputs, or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["va"] if str(file["key"]) == key else None
    except (ValueError, KeyError, OSError, EOFError):
        return None
