"""Label files: valence and arousal of one clip, per frame, at times of their own, or for spans.

The columns say which. `valence,arousal` is the format of Aff-Wild2: row k belongs to frame k.
`time_s,valence,arousal` holds ratings at times, and `start_s,end_s,valence,arousal` values that
hold for a span; both may have a last column `valid` (1 or 0). Values are in [-1, 1], and -5 for
both marks a row that is not annotated. `label_clock` brings labels to the rows of a clip.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from features.errors import InputError

VA = ("valence", "arousal")
CLOCKS = ((), ("time_s",), ("start_s", "end_s"))  # the columns before valence and arousal
HEADERS = " or ".join(repr(",".join([*clock, *VA])) for clock in CLOCKS)
UNANNOTATED = -5.0  # in both columns
INVALID_ROW = "-5,-5"
DECIMALS = 3  # of written labels
ROUNDING_S = 1e-6  # sums of times such as 0.1 + 0.2 are off by less
NOT_NEGATIVE = (
    "times count from the clip's first frame, which is at 0 s: add the offset of another clock to "
    "all of them, or remove the rows before 0 s; how late raters are is label_lag_s"
)
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a clip, one row per frame, rating or span."""

    va: Float64[np.ndarray, "L 2"]
    """Valence and arousal; 0 if not valid."""
    valid: Bool[np.ndarray, "L"]
    time_s: Float64[np.ndarray, "L"] | None = None
    """The time of each rating, or the start of each span, in seconds since the clip's first frame;
    None if row k belongs to frame k. Strictly increasing."""
    end_s: Float64[np.ndarray, "L"] | None = None
    """The end of each span (exclusive), None for ratings. Spans do not overlap."""
    lag_s: float = 0.0
    """Seconds by which the ratings are later than what they rate."""

    def __post_init__(self) -> None:
        """Raise `ValueError` unless the times are as documented above."""
        if fault := _clock_fault(self.time_s, self.end_s):
            raise ValueError(f"row {fault[0]}: {fault[1]}")

    @property
    def is_per_frame(self) -> bool:
        """Whether row k is the label of frame k, without times and lag."""
        return self.time_s is None and not self.lag_s


def _clock_fault(
    time_s: Float64[np.ndarray, "L"] | None, end_s: Float64[np.ndarray, "L"] | None
) -> tuple[int, str] | None:
    """Return the first row with a wrong time and what is wrong with it, or None."""
    if time_s is None:
        return None if end_s is None else (0, "it has an end but no start")
    ends = time_s if end_s is None else end_s
    if len(bad := np.flatnonzero(~(np.isfinite(time_s) & np.isfinite(ends)))):
        return int(bad[0]), f"the time {time_s[bad[0]]:g} is no finite number of seconds"
    if end_s is not None and len(bad := np.flatnonzero(end_s <= time_s)):
        k = int(bad[0])
        return k, f"the span ends at {end_s[k]:g} s, not after its start at {time_s[k]:g} s"
    if len(bad := np.flatnonzero(np.diff(time_s) <= 0)):
        k = int(bad[0]) + 1
        rule = "times must increase, without doubles; sort the rows by time"
        return k, f"{time_s[k]:g} s follows {time_s[k - 1]:g} s, but {rule}"
    if end_s is not None and len(bad := np.flatnonzero(end_s[:-1] - time_s[1:] > ROUNDING_S)):
        k = int(bad[0]) + 1
        return k, (
            f"the span from {time_s[k]:g} s overlaps the one before it, which ends at "
            f"{end_s[k - 1]:g} s; a moment has one label: cut or merge one of the two"
        )
    return None


def read_labels(path: Path, lag_s: float = 0.0) -> Labels:
    """The labels in a file; raises `InputError` that names the first invalid line.

    `lag_s` is that of the result, the clip's `label_lag_s`.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise InputError(
            f"the annotation {path} cannot be read ({reason}); correct `labels` in the manifest, "
            "or the file"
        ) from error
    header = lines[0].replace(" ", "").lower() if lines else ""
    columns = tuple(header.split(","))
    clock = columns[: columns.index(VA[0])] if VA[0] in columns else columns
    rest = columns[len(clock) :]
    if clock not in CLOCKS or rest not in ((VA,) if not clock else (VA, (*VA, "valid"))):
        raise InputError(
            f"{path}: the first line must be {HEADERS}, it is {header[:60]!r}; "
            "is this a valence-arousal annotation?"
        )
    while lines and not lines[-1].strip():
        lines.pop()  # at the end only: elsewhere, dropping it would shift the later rows
    if len(lines) < 2:
        raise InputError(f"{path} has a header but no row; expected one row per frame or rating")
    table = _faultless_table(lines[1:], columns)  # (L, clock + 2)
    if table is None:
        rows = [_row(path, number, line, columns) for number, line in enumerate(lines[1:], 2)]
        table = np.array(rows, dtype=np.float64)
    va = table[:, len(clock) :].copy()
    valid = va[:, 0] != UNANNOTATED
    va[~valid] = 0
    time_s = table[:, 0].copy() if clock else None
    end_s = table[:, 1].copy() if len(clock) > 1 else None
    if fault := _clock_fault(time_s, end_s):
        raise InputError(f"{path}, line {fault[0] + 2}: {fault[1]}")
    if time_s is not None and time_s[0] < -ROUNDING_S:  # the first one is the smallest
        raise InputError(f"{path}, line 2: the time {time_s[0]:g} s is negative; {NOT_NEGATIVE}")
    return Labels(va, valid, time_s, end_s, lag_s)


def write_labels(path: Path, labels: Labels, decimals: int | None = DECIMALS) -> None:
    """Write a label file that `read_labels` reads; the lag is a field of the manifest.

    `decimals` are those of the values; None writes every digit.
    """
    clock = [[repr(float(t)) for t in c] for c in (labels.time_s, labels.end_s) if c is not None]
    spec = "" if decimals is None else f".{decimals}f"
    values = [
        f"{valence:{spec}},{arousal:{spec}}" if valid else INVALID_ROW
        for (valence, arousal), valid in zip(labels.va.tolist(), labels.valid, strict=True)
    ]
    rows = [",".join(cells) for cells in zip(*clock, values, strict=True)]
    header = ",".join([*CLOCKS[len(clock)], *VA])
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def _faultless_table(
    lines: Sequence[str], columns: Sequence[str]
) -> Float64[np.ndarray, "L C"] | None:
    """Return the numbers of all lines, several times faster than `_row`.

    None if there is a column `valid`, or `_row` has something to say of a line.
    """
    if columns[-1] == "valid":
        return None
    try:
        table = np.loadtxt(lines, np.float64, comments=None, delimiter=",", ndmin=2)
    except ValueError:
        return None
    if table.shape != (len(lines), len(columns)):  # an empty line is left out
        return None
    va = table[:, -2:]
    n_marks = (va == UNANNOTATED).sum(axis=1)
    in_range = (np.abs(va) <= 1).all(axis=1)
    return table if ((n_marks == 2) | (n_marks == 0) & in_range).all() else None


def _row(path: Path, number: int, line: str, columns: Sequence[str]) -> tuple[float, ...]:
    """Return the numbers of a line without `valid`; -5 in both values if it is not annotated."""
    try:
        numbers = [float(cell) for cell in line.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != len(columns):
        raise InputError(
            f"{path}, line {number}: expected {NUMBERS[len(columns)]} numbers "
            f"`{','.join(columns)}`, found {line[:60]!r}"
        )
    if columns[-1] == "valid":
        *numbers, mark = numbers
        if mark not in (0, 1):
            raise InputError(f"{path}, line {number}: valid must be 1 or 0, it is {mark:g}")
        if not mark:
            numbers[-2:] = UNANNOTATED, UNANNOTATED
    *clock, valence, arousal = numbers
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
    return *clock, valence, arousal


def is_constant(labels: Labels) -> bool:
    """Whether all annotated rows are equal, as in placeholder files of test sets."""
    annotated = labels.va[labels.valid]
    return len(annotated) > 1 and bool((annotated == annotated[0]).all())


def labels_digest(labels: Labels) -> str:
    """The sha256 of the numbers, independent of their format in the file."""
    rows = np.where(labels.valid[:, None], labels.va, UNANNOTATED)
    digest = hashlib.sha256(np.ascontiguousarray(rows, dtype="<f8").tobytes())
    for name, column in (("time_s", labels.time_s), ("end_s", labels.end_s)):
        if column is not None:
            digest.update(name.encode() + np.ascontiguousarray(column, dtype="<f8").tobytes())
    if labels.lag_s:
        digest.update(f"lag_s{labels.lag_s!r}".encode())
    return digest.hexdigest()
