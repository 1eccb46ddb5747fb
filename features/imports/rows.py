"""The rows of one clip in a file of features, and the rules that they must keep."""

import hashlib
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
    valid: np.ndarray | None = None
    """Should be (T,), of 1 and 0; None: all rows are valid."""
    numbers: Sequence[int] | None = None
    """The number of each row in the file; None: counted from 0."""
    unit: str = "row"
    """What `numbers` count: rows or lines."""
    columns: tuple[str, ...] | None = None
    """The names of the columns, if the file has them."""

    def track(self) -> Track:
        """The rows as a track, in float16; `InputError` names the value that breaks a rule.

        Rows that are not valid are 0, and their values need not be finite.
        """
        self._check_shapes()
        self._check_times()
        valid = self._check_valid()
        values = np.empty(self.values.shape, np.float16)
        with np.errstate(over="ignore"):  # what is beyond float16 is found below
            for start in range(0, len(values), BLOCK):
                rows = slice(start, start + BLOCK)
                values[rows] = np.where(valid[rows, None], self.values[rows], 0)
                self._check_finite(values[rows], start)
        return Track(values, np.asarray(self.time_s, np.float64), valid)

    def _check_valid(self) -> np.ndarray:
        """The rows that are valid, as booleans (T,)."""
        if self.valid is None:
            return np.ones(len(self.values), bool)
        if self.valid.shape != self.values.shape[:1] or self.valid.dtype.kind not in "fiub":
            raise InputError(
                f"{self.where}: {len(self.values)} rows, and what says which are valid has the "
                f"shape {self.valid.shape} and type {self.valid.dtype}; it must be 1 or 0 per row"
            )
        for row in np.flatnonzero((self.valid != 0) & (self.valid != 1))[:1].tolist():
            raise InputError(
                f"{self._row(row)}: {self.valid[row]} does not say whether the row is valid; it "
                "must be 1 or 0"
            )
        return self.valid.astype(bool)

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


def rows_digest(track: Track) -> str:
    """Return the sha256 of the numbers of a track, whatever file they came from."""
    values = track.values.astype("<f2", copy=False)
    digest = hashlib.sha256(repr(values.shape).encode())
    for array in (values, track.time_s.astype("<f8"), track.valid):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
