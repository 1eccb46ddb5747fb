"""Label files: valence and arousal of one clip, one row per frame.

The format is that of Aff-Wild2: the first line is `valence,arousal`, values are in [-1, 1], and -5
in both columns marks a frame that is not annotated.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from features.errors import InputError

HEADER = "valence,arousal"
UNANNOTATED = -5.0  # in both columns
INVALID_ROW = "-5,-5"
DECIMALS = 3  # of written labels


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a clip, one row per frame."""

    va: Float64[np.ndarray, "N 2"]
    """Valence and arousal; 0 if not valid."""
    valid: Bool[np.ndarray, "N"]


def read_labels(path: Path) -> Labels:
    """The labels in a file; raises `InputError` that names the first invalid line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InputError(
            f"the annotation {path} cannot be read ({reason}); correct `labels` in the manifest, "
            "or the file"
        ) from error
    header = lines[0].replace(" ", "").lower() if lines else ""
    if header != HEADER:
        raise InputError(
            f"{path}: the first line must be {HEADER!r}, it is {header[:60]!r}; "
            "is this a valence-arousal annotation?"
        )
    while lines and not lines[-1].strip():
        lines.pop()  # at the end only: elsewhere, dropping it would shift the later rows
    rows = [_row(path, number, line) for number, line in enumerate(lines[1:], 2)]
    if not rows:
        raise InputError(f"{path} has a header but no row; expected one row per frame")
    va = np.array(rows, dtype=np.float64)  # (N, 2)
    valid = va[:, 0] != UNANNOTATED
    va[~valid] = 0
    return Labels(va, valid)


def write_labels(path: Path, labels: Labels) -> None:
    """Write a label file that `read_labels` reads."""
    rows = [
        f"{valence:.{DECIMALS}f},{arousal:.{DECIMALS}f}" if valid else INVALID_ROW
        for (valence, arousal), valid in zip(labels.va, labels.valid, strict=True)
    ]
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


def _row(path: Path, number: int, line: str) -> tuple[float, float]:
    cells = line.split(",")
    try:
        valence, arousal = (float(cell) for cell in cells)
    except ValueError:
        raise InputError(
            f"{path}, line {number}: expected two numbers `valence,arousal`, found {line[:60]!r}"
        ) from None
    marks = (valence == UNANNOTATED) + (arousal == UNANNOTATED)
    if marks == 1:
        raise InputError(
            f"{path}, line {number}: {line[:60]!r} marks one value as unannotated (-5) but not "
            "the other; both columns must have it"
        )
    if marks == 0 and not (-1 <= valence <= 1 and -1 <= arousal <= 1):
        raise InputError(
            f"{path}, line {number}: {line[:60]!r} lies outside [-1, 1] "
            "(unannotated frames are -5 in both columns)"
        )
    return valence, arousal


def is_constant(labels: Labels) -> bool:
    """Whether all annotated rows are equal, as in placeholder files of test sets."""
    annotated = labels.va[labels.valid]
    return len(annotated) > 1 and bool((annotated == annotated[0]).all())


def labels_digest(labels: Labels) -> str:
    """The sha256 of the numbers, independent of their format in the file."""
    rows = np.where(labels.valid[:, None], labels.va, UNANNOTATED)
    return hashlib.sha256(np.ascontiguousarray(rows, dtype="<f8").tobytes()).hexdigest()
