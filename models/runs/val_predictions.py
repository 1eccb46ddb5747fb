"""The predictions of the val split, kept in the folder of a run."""

import io
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from features.system.files import write_atomic
from models.runs.folder import VAL_PREDICTIONS
from models.runs.run_split import RunSplit, read_split


def val_predictions(source: RunSplit) -> Float64[np.ndarray, "N 2"]:
    """Return V and A of every row of the split, read from the run's folder if they are there.

    They are kept there, with the key of all that determines them, unless it is read-only.
    """
    key, path = source.key(), source.run / VAL_PREDICTIONS
    found = _read(path, key)
    if found is None:
        found = read_split(source).prediction.va
        if os.access(source.run, os.W_OK):
            archive = io.BytesIO()
            np.savez(archive, va=found, key=np.array(key))
            write_atomic(path, archive.getvalue())
    return found


def _read(path: Path, key: str) -> Float64[np.ndarray, "N 2"] | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["va"] if str(file["key"]) == key else None
    except (ValueError, KeyError, OSError, EOFError):
        return None  # missing or damaged: predicted again
