"""The rows of one clip in a file of features, and the rules that they must keep."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.clip import BLOCK, Track
from features.errors import InputError
from features.store.layout import MAX_ROWS, MAX_WIDTH


@dataclass(frozen=True, slots=True)
class ClipRows:
    """The rows of one clip as a file has them, not checked."""

    clip: str
    where: str
    """The file and the clip, as messages name them."""
    values: np.ndarray
    """Should be (T, D)."""
    time_s: np.ndarray
    """Should be (T,)."""
    numbers: Sequence[int] | None = None
    """The number of each row in the file; None: counted from 0."""
    unit: str = "row"
    """What `numbers` count: rows or lines."""
    columns: tuple[str, ...] | None = None
    """The names of the columns, if the file has them."""

    def track(self) -> Track:
        """The rows as a track, in float16; `InputError` names the value that breaks a rule."""
        self._check_shapes()
        self._check_times()
        values = np.empty(self.values.shape, np.float16)
        with np.errstate(over="ignore"):  # what is beyond float16 is found below
            for start in range(0, len(values), BLOCK):
                values[start : start + BLOCK] = self.values[start : start + BLOCK]
                self._check_finite(values[start : start + BLOCK], start)
        return Track(values, np.asarray(self.time_s, np.float64), np.ones(len(values), bool))

    def _check_shapes(self) -> None:
        for what, array in (("features", self.values), ("times", self.time_s)):
            if array.dtype.kind not in "fiub":
                raise InputError(
                    f"{self.where}: the {what} are of type {array.dtype}; they must be numbers"
                )
        shape = self.values.shape
        if len(shape) != 2 or not 0 < shape[1] <= MAX_WIDTH:
            raise InputError(
                f"{self.where}: the features have the shape {shape}; they must be rows of 1 to "
                f"{MAX_WIDTH} numbers, (rows, width): reshape them, such as with features[:, None]"
            )
        if not 0 < shape[0] <= MAX_ROWS:
            raise InputError(
                f"{self.where}: {shape[0]} rows; a clip needs 1 to {MAX_ROWS}: leave the clip out "
                "if it has no features"
            )
        if self.time_s.shape != shape[:1]:
            raise InputError(
                f"{self.where}: {shape[0]} rows of features and times of the shape "
                f"{self.time_s.shape}; each row needs one time: save the two again, from one run"
            )

    def _check_times(self) -> None:
        for row in np.flatnonzero(~np.isfinite(self.time_s))[:1].tolist():
            raise InputError(
                f"{self._row(row)}: the time is {self.time_s[row]}; a time must be a finite number "
                "of seconds: correct it, or leave the row out"
            )
        for row in np.flatnonzero(np.diff(self.time_s) <= 0)[:1].tolist():
            before, after = (float(each) for each in self.time_s[row : row + 2])
            what = "twice" if before == after else "after a later one"
            remedy = "remove one of the two" if before == after else "sort the rows by time"
            raise InputError(
                f"{self._row(row + 1)}: the time {after!r} s comes {what} (the row before has "
                f"{before!r} s); the times of a clip must increase: {remedy}"
            )

    def _check_finite(self, halves: np.ndarray, start: int) -> None:
        for row, column in np.argwhere(~np.isfinite(halves))[:1].tolist():
            value = self.values[start + row, column]
            name = repr(self.columns[column]) if self.columns else column
            rule = (
                "values are stored in float16, up to 65504: scale the column, such as to a "
                "standard deviation of 1"
                if np.isfinite(value)
                else "every value must be finite: fill it in, or leave the row out"
            )
            raise InputError(f"{self._row(start + row)}, column {name}: {value}; {rule}")

    def _row(self, row: int) -> str:
        return f"{self.where}, {self.unit} {self.numbers[row] if self.numbers else row}"
