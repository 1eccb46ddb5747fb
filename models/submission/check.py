"""Checks a submission against the rules of the challenge's format."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from features.errors import list_names
from models.submission.format import HEADER, Sample, bytes_of

EXAMPLES = 3  # of the places where a rule is broken; the others are counted
SHOWN = 60  # characters of a value
COLUMNS = HEADER.split(",")
BYTE_ORDER_MARK = "\ufeff"

SAYS: dict[str, tuple[str, str]] = {
    "encoding": ("the file must be text in UTF-8", "save it as plain text in UTF-8"),
    "empty": ("the file must hold a header and rows", "write it again"),
    "byte order mark": (
        "the file must begin with its header, not with a byte order mark",
        "save it as UTF-8 without one",
    ),
    "line ends": ("lines must end with \\n alone", "save it with Unix line ends"),
    "header": (f"line 1 must be {HEADER!r}", "put this line first, spelled so"),
    "columns": (
        "a row must have three columns, location, valence and arousal",
        "write them with commas between them, points in the numbers and no blank lines",
    ),
    "number": (
        "valence and arousal must be decimal numbers",
        "fill every placeholder; frames without a face, too, need a value",
    ),
    "finite": ("values must be finite", "find where they come from, and predict again"),
    "range": (
        "values must lie in [-1, 1]",
        "clamp them; -5 marks annotations and is no prediction: predict such frames, too",
    ),
    "count": ("there must be as many rows as in the sample", "add what lacks, take out the rest"),
    "missing": ("every row of the sample must be there", "predict and add them"),
    "unexpected": (
        "no row may be there that the sample does not have",
        "take them out; locations are spelled as in the sample",
    ),
    "duplicate": ("no row may come twice", "keep one of each"),
    "order": ("rows must stand in the sample's order", "sort them as the sample has them"),
    "constant": (
        "a column must vary",
        "its CCC is 0: is it a placeholder, or has the head learnt nothing?",
    ),
}
"""Each rule, in the order of the report: what it says, and what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule that a submission breaks, with the first places where it does."""

    rule: str
    """A key of `SAYS`."""
    examples: tuple[str, ...]
    """Line and value, of at most `EXAMPLES` places."""
    n: int

    def __post_init__(self) -> None:
        if not 1 <= len(self.examples) <= min(self.n, EXAMPLES):
            raise ValueError(f"{len(self.examples)} examples of {self.n} places")

    def __str__(self) -> str:
        must, remedy = SAYS[self.rule]
        more = self.n - len(self.examples)
        listed = ", ".join(self.examples) + (f" and {more} more" if more else "")
        return f"{self.rule}: {listed}; {must}: {remedy}"


def check(path: Path, sample: Sample) -> tuple[Problem, ...]:
    """Return every rule that the file breaks; none if it can be submitted.

    A file that is not text breaks this rule only. Raises `InputError` if it cannot be read.
    """
    data = bytes_of(path, "the file to be sent")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return (Problem("encoding", (f"line {line}: byte 0x{data[error.start]:02x}",), 1),)
    found = _Problems(defaultdict(list), Counter())
    if text.startswith(BYTE_ORDER_MARK):
        found.add("byte order mark", "line 1: U+FEFF")
        text = text.removeprefix(BYTE_ORDER_MARK)
    if not text.strip():
        found.add("empty", f"{len(data)} bytes")
        return found.problems()
    if "\r" in text:
        number = text.count("\n", 0, text.index("\r")) + 1
        found.add("line ends", f"line {number} ends with \\r", text.count("\r"))
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.removesuffix("\n").split("\n")
    first_row = 1
    if lines[0] != HEADER:
        first_row = 0 if lines[0].partition(",")[0] in sample.locations else 1
        found.add("header", f"line 1: {lines[0][:SHOWN]!r}" + ("" if first_row else " is a row"))
    line_of, n_rows = _check_rows(lines, first_row, found)
    if n_rows != len(sample.locations):
        found.add("count", f"{n_rows} rows, where the sample has {len(sample.locations)}")
    _compare(line_of, sample, found)
    return found.problems()


@dataclass(frozen=True, slots=True)
class _Problems:
    examples: dict[str, list[str]]
    n: Counter[str]

    def add(self, rule: str, example: str, n: int = 1) -> None:
        """Add a place that breaks a rule, or `n` places of which this is the first."""
        self.n[rule] += n
        if len(self.examples[rule]) < EXAMPLES:
            self.examples[rule].append(example)

    def problems(self) -> tuple[Problem, ...]:
        """Return the problems in the order of the rules."""
        broken = [rule for rule in SAYS if self.n[rule]]
        return tuple(Problem(rule, tuple(self.examples[rule]), self.n[rule]) for rule in broken)


def _check_rows(lines: Sequence[str], first: int, found: _Problems) -> tuple[dict[str, int], int]:
    """Check rows and columns; returns the first line of each location, and the number of rows."""
    line_of: dict[str, int] = {}
    values: dict[str, list[float]] = {name: [] for name in COLUMNS[1:]}
    n_rows = 0
    for number, line in enumerate(lines[first:], first + 1):
        location, *cells = line.split(",")
        if len(cells) != len(values):
            found.add("columns", f"line {number}: {len(cells) + 1} columns in {line[:SHOWN]!r}")
        else:
            for name, cell in zip(values, cells, strict=True):
                value, broken = _value(cell)
                if broken:
                    found.add(broken, f"line {number}: {name} = {cell[:SHOWN]!r}")
                if value is not None:
                    values[name].append(value)
        if not line.strip():
            continue
        n_rows += 1
        if (before := line_of.setdefault(location, number)) != number:
            found.add("duplicate", f"line {number}: {location[:SHOWN]!r}, as in line {before}")
    for name, column in values.items():
        if len(column) > 1 and min(column) == max(column):
            found.add("constant", f"lines {first + 1} to {len(lines)}: {name} = {column[0]:g}")
    return line_of, n_rows


def _value(cell: str) -> tuple[float | None, str | None]:
    """The finite number in a cell, and the rule that the cell breaks; blanks are accepted."""
    try:
        value = float(cell)
    except ValueError:
        return None, "number"
    if not cell.isascii() or "_" in cell:  # Python reads these, other readers of CSV may not
        return None, "number"
    if not isfinite(value):  # 1e999 is infinite
        return None, "finite"
    return value, None if -1 <= value <= 1 else "range"


def _compare(line_of: dict[str, int], sample: Sample, found: _Problems) -> None:
    """Find locations that are missing, unexpected or out of order."""
    lacking = [row for row, location in enumerate(sample.locations) if location not in line_of]
    if lacking:
        per_clip = Counter(sample.clips[sample.clip_of[row]] for row in lacking)
        counts = list_names([f"{clip}: {n}" for clip, n in per_clip.items()])
        first = f"{sample.locations[lacking[0]]!r}, row {lacking[0] + 1} of the sample"
        found.add("missing", f"{first} ({counts})", len(lacking))
    known = set(sample.locations)
    for location, number in line_of.items():
        if location not in known:
            found.add("unexpected", f"line {number}: {location[:SHOWN]!r}")
    present = (location for location in line_of if location in known)
    in_order = (location for location in sample.locations if location in line_of)
    for location, expected in zip(present, in_order, strict=True):
        if location != expected:
            found.add("order", f"line {line_of[location]}: {location!r}, not {expected!r}")
