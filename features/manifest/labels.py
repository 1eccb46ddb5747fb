"""Valence and arousal of one clip as a text file: a header, then one row a frame.

The format is Aff-Wild2's: first line `valence,arousal`, values in [-1, 1], and -5 in both
columns where a frame could not be annotated.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from features.errors import InputError

HEADER = "valence,arousal"
UNANNOTATED = -5.0  # in both columns; Aff-Wild2's mark of an invalid frame
INVALID_ROW = "-5,-5"
DECIMALS = 3  # of a label that is written


@dataclass(frozen=True, slots=True)
class Labels:
    """One row per frame, in the order of the frames."""

    va: Float64[np.ndarray, "N 2"]
    """Valence, arousal; 0 where not valid."""
    valid: Bool[np.ndarray, "N"]


def read_labels(path: Path) -> Labels:
    """The labels in a file; `InputError` names the first line that breaks the format."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InputError(
            f"the annotation {path} cannot be read ({why}); correct `labels` in the manifest, or "
            "the file"
        ) from error
    header = lines[0].replace(" ", "").lower() if lines else ""
    if header != HEADER:
        raise InputError(
            f"{path}: the first line must be {HEADER!r}, it is {header[:60]!r}; "
            "is this a valence-arousal annotation?"
        )
    while lines and not lines[-1].strip():
        lines.pop()  # at the end alone: elsewhere it would move all rows after it by a frame
    rows = [_row(path, number, line) for number, line in enumerate(lines[1:], 2)]
    if not rows:
        raise InputError(f"{path} has a header but no row; expected one row per frame")
    va = np.array(rows, dtype=np.float64)  # (N, 2)
    valid = va[:, 0] != UNANNOTATED
    va[~valid] = 0
    return Labels(va, valid)


def write_labels(path: Path, labels: Labels) -> None:
    """Write the labels in the same format."""
    rows = [
        f"{valence:.{DECIMALS}f},{arousal:.{DECIMALS}f}" if valid else INVALID_ROW
        for (valence, arousal), valid in zip(labels.va, labels.valid, strict=True)
    ]
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")


def _row(path: Path, number: int, line: str) -> tuple[float, float]:
    """The two values of one line, both in [-1, 1] or both the mark of an unannotated frame."""
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
            "the other; the mark must stand in both columns"
        )
    if marks == 0 and not (-1 <= valence <= 1 and -1 <= arousal <= 1):
        raise InputError(
            f"{path}, line {number}: {line[:60]!r} lies outside [-1, 1] "
            "(unannotated frames are -5 in both columns)"
        )
    return valence, arousal


def is_constant(labels: Labels) -> bool:
    """Whether every annotated row is the same point, as in placeholder files of test sets."""
    annotated = labels.va[labels.valid]
    return len(annotated) > 1 and bool((annotated == annotated[0]).all())


def labels_digest(labels: Labels) -> str:
    """sha256 of the numbers, blind to how the file spells them."""
    rows = np.where(labels.valid[:, None], labels.va, UNANNOTATED)
    return hashlib.sha256(np.ascontiguousarray(rows, dtype="<f8").tobytes()).hexdigest()
