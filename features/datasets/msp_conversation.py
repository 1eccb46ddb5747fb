"""MSP-Conversation: podcasts with a trace of ratings per rater and part, and sound alone.

Martinez-Lucas, Abdelwahab and Busso, "The MSP-Conversation Corpus", Interspeech 2020.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from features.clip import Split
from features.datasets.base import DatasetIndex
from features.datasets.entries import (
    AUDIO_SUFFIXES,
    NO_SPLIT,
    DrawnSplitsConfig,
    Entry,
    Scale,
    find_media,
    index_entries,
    to_unit_range,
)
from features.errors import InputError
from features.manifest.labels import NOT_NEGATIVE, ROUNDING_S, VA, Labels

ANNOTATIONS = "Annotations"
TRACE = re.compile(r"(.+_\d+)_(\d+)_(\d+)\.csv")  # conversation, part, rater
Traces = dict[str, list[Path]]  # by dimension
Trace = tuple[Float64[np.ndarray, "N"], Float64[np.ndarray, "N"]]
"""Times in seconds and values of one rater."""


class MspConversationConfig(DrawnSplitsConfig):
    """MSP-Conversation, with the mean of the raters."""

    kind: Literal["msp-conversation"] = "msp-conversation"
    media: Path | None = None
    """The folder of the recordings; if null, the data set's."""
    scale: Scale = (-100.0, 100.0)
    """The range of the values, which is mapped to [-1, 1]."""
    step_s: Annotated[float, Field(ge=0.01, le=10)] = 0.1
    """Seconds between two means of the raters."""

    def index(self, base: Path) -> DatasetIndex:
        """Return the recordings that have ratings: of a part each, or of a conversation."""
        conversations = _find_traces(self.root)
        folder = self.media or self.root
        sounds = find_media(folder, AUDIO_SUFFIXES)
        splits = self.draw([*conversations]) if self.has_shares else {}
        notes = [] if splits else [NO_SPLIT]
        entries: dict[str, Callable[[], Entry]] = {}
        for name, parts in conversations.items():
            of_parts = {f"{name}_{part}": {part: traces} for part, traces in parts.items()}
            clips = of_parts if of_parts.keys() & sounds.keys() else {name: parts}
            for clip, rated in clips.items():
                sound = sounds.get(clip, folder / f"{clip}.wav")
                entries[clip] = partial(self._entry, name, rated, sound, splits.get(name))
        notes += [f"recording without ratings: {name}" for name in sorted({*sounds} - {*entries})]
        return index_entries(self, base, entries, notes)

    def _entry(
        self, name: str, parts: Mapping[str, Traces], sound: Path, split: Split | None
    ) -> Entry:
        rated = {part: self._part(f"{name}_{part}", traces) for part, traces in parts.items()}
        ordered = sorted(rated.items(), key=lambda item: item[1][0][0])
        for (one, (before_s, _)), (other, (after_s, _)) in pairwise(ordered):
            if after_s[0] <= before_s[-1]:
                raise InputError(
                    f"{sound}: the part {other} is rated from {after_s[0]:g} s on, before the end "
                    f"of the part {one} at {before_s[-1]:g} s; are times those of the parts? then "
                    f"cut the recording, and name the sound of each part {name}_{one}.wav"
                )
        time_s = np.concatenate([times for _, (times, _) in ordered])
        va = np.concatenate([values for _, (_, values) in ordered])
        valid = np.isfinite(va[:, 0]) & np.isfinite(va[:, 1])
        va[~valid] = 0
        return Entry(sound, Labels(va, valid, time_s), split, name)

    def _part(
        self, part: str, traces: Traces
    ) -> tuple[Float64[np.ndarray, "L"], Float64[np.ndarray, "L 2"]]:
        """Return times and mean values of a part; NaN where too few raters were rating."""
        if lacking := [dimension for dimension in VA if dimension not in traces]:
            raise InputError(
                f"{part} has no file of {lacking[0]} in {self.root / ANNOTATIONS}; both are needed"
            )
        read = {name: [self._trace(path) for path in traces[name]] for name in VA}
        times = [time_s for traces in read.values() for time_s, _ in traces]
        first = np.ceil(min(time_s[0] for time_s in times) / self.step_s)
        last = np.floor(max(time_s[-1] for time_s in times) / self.step_s)
        if last < first:
            raise InputError(f"{part} is rated for less than step_s = {self.step_s:g}; lower it")
        time_s = np.arange(first, last + 1) * self.step_s
        return time_s, np.stack([mean_trace(read[name], time_s) for name in VA], axis=1)

    def _trace(self, path: Path) -> Trace:
        time_s, values, numbers = _read_trace(path)
        values = to_unit_range(
            values,
            self.scale,
            lambda k: f"{path}, line {numbers[k]}: the value",
            "give scale=[LOW,HIGH]",
        )
        return time_s, values


def mean_trace(traces: list[Trace], time_s: Float64[np.ndarray, "L"]) -> Float64[np.ndarray, "L"]:
    """Return the mean of the raters at some times.

    Each trace is interpolated linearly between its first and last time, and counts nowhere else.
    A time that not more than half of the raters reach is NaN: the mean would jump when one ends.
    """
    values = np.stack(
        [np.interp(time_s, *trace, left=np.nan, right=np.nan) for trace in traces]
    )  # (raters, L)
    counts = np.isfinite(values).sum(axis=0)
    means = np.nansum(values, axis=0) / np.maximum(counts, 1)
    return np.where(2 * counts > len(traces), means, np.nan)


def _find_traces(root: Path) -> dict[str, dict[str, Traces]]:
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


def _read_trace(
    path: Path,
) -> tuple[Float64[np.ndarray, "N"], Float64[np.ndarray, "N"], list[int]]:
    """Return times, values and the numbers of the lines, below a header of any length.

    Columns after the second are not read: one file of the corpus has three.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); get it again") from None
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
