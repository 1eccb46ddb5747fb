"""The files of MSP-Conversation: traces of ratings, times of parts and turns, and the partition."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from features.clip import Split
from features.datasets.entries import SPLITS
from features.errors import InputError, one_line
from features.manifest.labels import NOT_NEGATIVE, ROUNDING_S, VA

ANNOTATIONS = "Annotations"
TIME_LABELS = ("Time Labels", "Time_Labels", ".")
"""Folders in which the files of times are, in releases of the corpus."""
PARTS, CONVERSATIONS, TURNS = "conversation_parts.txt", "conversations.txt", "segments.json"
PARTITIONS = "partitions.txt"
TRACE = re.compile(r"(.+_\d+)_(\d+)_(\d+)\.csv")  # conversation, part, rater
Traces = dict[str, list[Path]]  # by dimension
Span = tuple[float, float]
"""Start and end in seconds."""


@dataclass(frozen=True, slots=True)
class TimeFiles:
    """What the files of times say; empty if there are none."""

    parts: dict[str, Span] = field(default_factory=dict)
    """Each part on the clock of the recording of its conversation, which begins at 0."""
    turns: dict[str, list[Span]] = field(default_factory=dict)
    """The turns of the speakers of each part, on the clock of its ratings."""
    partition: dict[str, Split] = field(default_factory=dict)
    """The split of each conversation."""

    def in_turn(self, part: str, time_s: Float64[np.ndarray, "L"]) -> Bool[np.ndarray, "L"]:
        """Return which times lie in a turn of a speaker; the end of a turn does not."""
        spans = np.array(self.turns.get(part, [])).reshape(-1, 2)
        inside = (time_s[:, None] >= spans[:, 0]) & (time_s[:, None] < spans[:, 1])
        return np.asarray(inside.any(axis=1))


def read_time_files(root: Path) -> TimeFiles:
    """Return what the files of times below the folder of the data set say.

    Raises `InputError` that names file, line and value if one is not of the documented form.
    """
    spans = dict(_spans(_find(root, PARTS)))
    begins = {name: start_s for name, (start_s, _) in _spans(_find(root, CONVERSATIONS))}
    for part, (start_s, _) in spans.items():
        name = part.rpartition("_")[0]
        if not _find(root, CONVERSATIONS):  # a conversation begins with its first part
            begins[name] = min(start_s, begins.get(name, start_s))
    parts = {
        part: (start_s - (begin_s := begins.get(part.rpartition("_")[0], 0.0)), end_s - begin_s)
        for part, (start_s, end_s) in spans.items()
    }
    return TimeFiles(parts, _turns(_find(root, TURNS)), dict(_partition(_find(root, PARTITIONS))))


def _find(root: Path, name: str) -> Path | None:
    return next((path for each in TIME_LABELS if (path := root / each / name).is_file()), None)


def _lines(path: Path | None, n_fields: int, form: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each line that is not empty."""
    if path is None:
        return
    for number, line in enumerate(_read(path).splitlines(), 1):
        fields = [each.strip() for each in line.split(";")]
        if line.strip() and len(fields) != n_fields:
            raise InputError(f"{path}, line {number}: {line[:60]!r} is not {form}; correct it")
        if line.strip():
            yield number, fields


def _spans(path: Path | None) -> Iterator[tuple[str, Span]]:
    for number, (name, start, end) in _lines(path, 3, "NAME;START;END"):
        try:
            start_s, end_s = float(start), float(end)
        except ValueError:
            start_s = end_s = np.nan
        if not start_s < end_s < np.inf:
            raise InputError(
                f"{path}, line {number}: from {start!r} to {end!r} is no span of seconds; correct "
                "it"
            )
        yield name, (start_s, end_s)


def _partition(path: Path | None) -> Iterator[tuple[str, Split]]:
    for number, (name, split) in _lines(path, 2, "NAME;PARTITION"):
        if split.lower() not in SPLITS:
            raise InputError(
                f"{path}, line {number}: {split!r} is no split; expected Train, Validation or Test"
            )
        yield name, SPLITS[split.lower()]


def _turns(path: Path | None) -> dict[str, list[Span]]:
    if path is None:
        return {}
    turns: dict[str, list[Span]] = defaultdict(list)
    try:
        for name, turn in json.loads(_read(path)).items():
            try:
                span = float(turn["Start_Time"]), float(turn["End_Time"])
                turns[str(turn["Conversation_Part"])].append(span)
            except (KeyError, TypeError, ValueError):
                raise InputError(
                    f"{path}: the segment {name!r} has no Conversation_Part, Start_Time and "
                    "End_Time in seconds; is it another edition?"
                ) from None
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({one_line(error)}); get it again") from None
    return dict(turns)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); get it again") from None


def find_traces(root: Path) -> dict[str, dict[str, Traces]]:
    """Return the files of ratings by conversation, part and dimension."""
    found: dict[str, dict[str, Traces]] = defaultdict(lambda: defaultdict(dict))
    folders = {path.name.lower(): path for path in sorted((root / ANNOTATIONS).glob("*"))}
    for dimension in VA:
        if dimension not in folders:
            raise InputError(
                f"{root} has no folder {ANNOTATIONS}/{dimension.capitalize()}; give the folder "
                "that holds it"
            )
        for path in sorted(folders[dimension].glob("*.csv")):
            if (match := TRACE.fullmatch(path.name)) is None:
                raise InputError(
                    f"{path} has no name such as MSP-Conversation_0047_2_001.csv, of conversation, "
                    "part and rater; rename or remove it"
                )
            found[match[1]][match[2]].setdefault(dimension, []).append(path)
    if not found:
        raise InputError(f"{root / ANNOTATIONS} holds no file of ratings")
    return found


def read_trace(
    path: Path,
) -> tuple[Float64[np.ndarray, "N"], Float64[np.ndarray, "N"], list[int]]:
    """Return times, values and the numbers of the lines, below a header of any length.

    Columns after the second are not read: one file of the corpus has three.
    """
    lines = _read(path).splitlines()
    rows: list[tuple[float, float]] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, 1):
        cells = line.split(",")
        try:
            time_s, value = float(cells[0]), float(cells[1])
        except (ValueError, IndexError):
            if rows and line.strip():
                raise InputError(
                    f"{path}, line {number}: {line[:60]!r} does not begin with a time and a value; "
                    "correct or remove it"
                ) from None
            continue
        if not np.isfinite([time_s, value]).all():
            raise InputError(f"{path}, line {number}: {line[:60]!r} is not finite; remove the line")
        if time_s < -ROUNDING_S:
            raise InputError(
                f"{path}, line {number}: the time {time_s:g} s is negative; {NOT_NEGATIVE}"
            )
        if rows and time_s <= rows[-1][0]:
            raise InputError(
                f"{path}, line {number}: {time_s:g} s follows {rows[-1][0]:g} s, but times must "
                "increase; sort the lines, and remove doubles"
            )
        rows.append((time_s, value))
        numbers.append(number)
    if not rows:
        raise InputError(f"{path} has no line with a time and a value")
    table = np.array(rows)
    return table[:, 0].copy(), table[:, 1].copy(), numbers
