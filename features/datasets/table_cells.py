"""The cells of a table as numbers and marks, and its rows grouped by clip.

Every error names the row, the column and the value.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from features.datasets.table_columns import FoundColumns
from features.datasets.table_rows import read_rows
from features.errors import InputError
from features.manifest.labels import NOT_NEGATIVE, ROUNDING_S, UNANNOTATED
from features.media.limits import DEFAULT_LIMITS

MISSING = {"", "nan", "na", "null", "none"}  # cells without a value, in lower case
MARKS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
MS = 1000  # in a second


@dataclass(slots=True)
class Group:
    """The rows of one clip."""

    first: int
    """The number of the first row."""
    numbers: list[int] = field(default_factory=list)
    at: list[tuple[float, ...]] = field(default_factory=list)
    """Time, frame, or start and end of each row; empty if the table has none."""
    va: list[tuple[float, float]] = field(default_factory=list)
    """NaN if not annotated."""
    constants: dict[str, str] = field(default_factory=dict)
    """The cells that all rows of a clip share, by role."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Reads the cells of a table."""

    table: Path
    found: FoundColumns
    unit: Literal["s", "ms"]

    def where(self, number: int) -> str:
        """Return the row as messages name it."""
        kind = "row" if self.table.suffix.lower() == ".parquet" else "line"
        return f"{self.table}, {kind} {number}"

    def column(self, number: int, role: str) -> str:
        """Return the row and the column as messages name them."""
        return f"{self.where(number)}: {role} (column {self.found.roles[role]!r})"

    def groups(self) -> dict[str, Group]:
        """Return the rows of each clip, by its name or its path."""
        groups: dict[str, Group] = {}
        roles, clock = self.found.roles, self.found.clock
        key_role = "clip" if "clip" in roles else "path"
        constant = [role for role in ("path", "subject", "split") if role in roles]
        for number, row in read_rows(self.table):
            cells = {role: row.get(column, "").strip() for role, column in roles.items()}
            if not (key := cells[key_role]):
                raise InputError(f"{self.column(number, key_role)} is empty; each row needs one")
            group = groups.setdefault(key, Group(number))
            for role in constant:
                before = group.constants.setdefault(role, cells[role])
                if cells[role] != before:
                    raise InputError(
                        f"{self.column(number, role)} = {cells[role]!r}, but {before!r} in "
                        f"{self.where(group.first)} of the same clip {key!r}; a clip has one {role}"
                    )
            group.numbers.append(number)
            at = tuple(self._number(number, role, cells[role]) for role in clock)
            if len(at) > 1 and at[1] <= at[0]:
                raise InputError(
                    f"{self.column(number, 'end')} = {cells['end']!r} is not after the start, "
                    f"{cells['start']!r}; correct one of the two"
                )
            group.at.append(at)
            group.va.append(self._values(number, cells))
        return groups

    def _number(self, number: int, role: str, cell: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            how = "correct the cell"
            if ":" in cell:
                how = "write a time in seconds, or in ms"
            elif "," in cell:
                how = "write a decimal point"
            raise InputError(
                f"{self.column(number, role)} = {cell!r} is no number; {how}, or say which column "
                f"is meant with columns.{role}=NAME"
            )
        if role == "frame" and not (value.is_integer() and 0 <= value <= DEFAULT_LIMITS.frames):
            raise InputError(
                f"{self.column(number, role)} = {cell!r} is no number of a frame, from 0 to "
                f"{DEFAULT_LIMITS.frames}; is it a time? then give columns.frame=null and "
                f"columns.time={self.found.roles[role]}"
            )
        if role not in ("time", "start", "end"):
            return value
        time_s = value / MS if self.unit == "ms" else value
        if time_s < -ROUNDING_S:
            raise InputError(
                f"{self.column(number, role)} = {cell!r} is a negative time; {NOT_NEGATIVE}"
            )
        return time_s

    def _values(self, number: int, cells: dict[str, str]) -> tuple[float, float]:
        mark = cells.get("valid", "1").lower()
        if mark not in MARKS:
            raise InputError(
                f"{self.column(number, 'valid')} = {mark!r} must be 1 or 0; correct it, or leave "
                "the column out with columns.valid=null"
            )
        given = {role: cells[role].lower() not in MISSING for role in ("valence", "arousal")}
        if not MARKS[mark] or not any(given.values()):
            return np.nan, np.nan
        for role, is_given in given.items():
            if not is_given:
                raise InputError(
                    f"{self.column(number, role)} = {cells[role]!r}, but the other value is given; "
                    "a row without annotation has neither: correct it, or empty both"
                )
        valence, arousal = (self._number(number, role, cells[role]) for role in given)
        return (np.nan, np.nan) if valence == arousal == UNANNOTATED else (valence, arousal)

    def sort(self, clip: str, group: Group) -> Group:
        """Return the rows in the order of time; raises `InputError` if two are of one time."""
        if not self.found.clock:
            return group
        order = sorted(range(len(group.at)), key=lambda k: group.at[k])
        for before, after in pairwise(order):
            first, second = group.at[before], group.at[after]
            if second[0] < first[-1] or second[0] == first[0]:
                lines = [f"{self.where(group.numbers[k])}" for k in (before, after)]
                raise InputError(
                    f"{lines[0]} ({_show(first)}) and {lines[1].rpartition(', ')[2]} "
                    f"({_show(second)}) of clip {clip!r} are of one time or overlap; a moment has "
                    "one label: remove one, or merge the two, as by the mean of several raters"
                )
        pick = [group.numbers, group.at, group.va]
        numbers, at, va = ([column[k] for k in order] for column in pick)
        return Group(group.first, numbers, at, va, group.constants)


def _show(at: tuple[float, ...]) -> str:
    return " to ".join(f"{value:g}" for value in at)
