"""MSP-Conversation: podcasts with a trace of ratings per rater and part, and sound alone.

Martinez-Lucas, Abdelwahab and Busso, "The MSP-Conversation Corpus", Interspeech 2020.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from features.clip import MAX_LAG_S, Split
from features.datasets.base import DatasetIndex
from features.datasets.entries import (
    AUDIO_SUFFIXES,
    LATE_S,
    DrawnSplitsConfig,
    Entry,
    Scale,
    find_media,
    index_entries,
    to_unit_range,
)
from features.datasets.msp_files import (
    ANNOTATIONS,
    PARTITIONS,
    PARTS,
    TURNS,
    TimeFiles,
    Traces,
    find_traces,
    read_time_files,
    read_trace,
)
from features.errors import InputError
from features.manifest.labels import ROUNDING_S, VA, Labels

DECIMALS = 6  # of times: sums of others are off in the last digit
Lag = Annotated[float, Field(ge=0, le=MAX_LAG_S)]
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
    times: Literal["part", "conversation"] | None = None
    """What the times of ratings count from; null: the part, if there is a file of the parts."""
    turns_only: bool = False
    """Whether times in no turn of a speaker (segments.json) are left out as not annotated."""
    valence_lag_s: Lag | None = None
    """Seconds by which the ratings of valence lag; null: label_lag_s."""
    arousal_lag_s: Lag | None = None
    """Likewise, of arousal."""

    def index(self, base: Path) -> DatasetIndex:
        """Return the recordings that have ratings: of a part each, or of a conversation."""
        conversations, files = find_traces(self.root), read_time_files(self.root)
        if self.turns_only and not files.turns:
            raise InputError(f"turns_only: {self.root} has no {TURNS}; leave turns_only out")
        folder = self.media or self.root
        sounds = find_media(folder, AUDIO_SUFFIXES)
        splits: dict[str, Split] = {}
        notes: list[str] = []
        if self.has_shares:  # in place of the partition of the data set
            splits = self.draw([*conversations])
        elif files.partition:
            splits = files.partition
            notes.append(f"splits are those of {PARTITIONS}")
            notes += [
                f"{name} is not in {PARTITIONS}" for name in conversations if name not in splits
            ]
        else:
            notes.append(
                f"there is no {PARTITIONS}, and no split is drawn, which training needs; give "
                "val_share=0.2"
            )
        entries: dict[str, Callable[[], Entry]] = {}
        for name, parts in conversations.items():
            of_parts = {f"{name}_{part}": {part: traces} for part, traces in parts.items()}
            clips = of_parts if of_parts.keys() & sounds.keys() else {name: parts}
            for clip, rated in clips.items():
                sound = sounds.get(clip, folder / f"{clip}.wav")
                entries[clip] = partial(
                    self._entry, name, rated, sound, splits.get(name), files, clip in of_parts
                )
        notes += [f"recording without ratings: {name}" for name in sorted({*sounds} - {*entries})]
        return index_entries(self, base, entries, notes)

    def _entry(
        self,
        name: str,
        parts: Mapping[str, Traces],
        sound: Path,
        split: Split | None,
        files: TimeFiles,
        is_part: bool,  # whether the sound is that of a part
    ) -> Entry:
        rated = {
            part: self._part(f"{name}_{part}", traces, files, is_part)
            for part, traces in parts.items()
        }
        ordered = sorted(rated.items(), key=lambda item: item[1][0][0])
        for (one, (before_s, _)), (other, (after_s, _)) in pairwise(ordered):
            if after_s[0] <= before_s[-1]:
                raise InputError(
                    f"{sound}: the part {other} is rated from {after_s[0]:g} s on, before the end "
                    f"of the part {one} at {before_s[-1]:g} s; do times count from the start of "
                    f"the part? then add {PARTS}, or cut the recording, and name the sound of each "
                    f"part {name}_{one}.wav"
                )
        time_s = np.concatenate([times for _, (times, _) in ordered])
        va = np.concatenate([values for _, (_, values) in ordered])
        valid = np.isfinite(va[:, 0]) & np.isfinite(va[:, 1])
        va[~valid] = 0
        return Entry(sound, Labels(va, valid, time_s), split, name)

    def _part(
        self, part: str, traces: Traces, files: TimeFiles, is_part: bool
    ) -> tuple[Float64[np.ndarray, "L"], Float64[np.ndarray, "L 2"]]:
        """Return times and mean values of a part; NaN where too few raters were rating.

        Times are on the clock of the sound, and each dimension is moved by how much more than
        `label_lag_s` its ratings lag.
        """
        if lacking := [dimension for dimension in VA if dimension not in traces]:
            raise InputError(
                f"{part} has no file of {lacking[0]} in {self.root / ANNOTATIONS}; both are needed"
            )
        read = {name: [self._trace(path) for path in traces[name]] for name in VA}
        last_s = max(time_s[-1] for traces in read.values() for time_s, _ in traces)
        offset_s = self._offset_s(part, files, last_s, is_part)
        for name, own_lag_s in zip(VA, (self.valence_lag_s, self.arousal_lag_s), strict=True):
            more_s = 0.0 if own_lag_s is None else own_lag_s - self.label_lag_s
            by_s = offset_s - more_s
            read[name] = [
                (np.round(time_s + by_s, DECIMALS), values) for time_s, values in read[name]
            ]
        times = [time_s for traces in read.values() for time_s, _ in traces]
        first = max(0.0, np.ceil(min(time_s[0] for time_s in times) / self.step_s - ROUNDING_S))
        last = np.floor(max(time_s[-1] for time_s in times) / self.step_s + ROUNDING_S)
        if last < first:
            raise InputError(f"{part} is rated for less than step_s = {self.step_s:g}; lower it")
        time_s = np.round(np.arange(first, last + 1) * self.step_s, DECIMALS)
        values = np.stack([mean_trace(read[name], time_s) for name in VA], axis=1)
        if self.turns_only:
            rated_s = time_s - offset_s - self.label_lag_s
            values[~files.in_turn(part, rated_s)] = np.nan
        return time_s, values

    def _offset_s(self, part: str, files: TimeFiles, last_s: float, is_part: bool) -> float:
        """Return what is added to the times of ratings, so that they are on the sound's clock."""
        times = self.times or ("part" if files.parts else None)
        if times is None or (times == "part" and is_part and part not in files.parts):
            return 0.0
        if part not in files.parts:
            raise InputError(f"{part} is not in {PARTS}, which says when it begins; add it there")
        start_s, end_s = files.parts[part]
        if times == "conversation":
            return -start_s if is_part else 0.0
        if last_s > end_s - start_s + LATE_S:
            raise InputError(
                f"{part} lasts {end_s - start_s:g} s by {PARTS} and is rated until {last_s:g} s: "
                "do times count from the start of the conversation? then give times=conversation"
            )
        return 0.0 if is_part else start_s

    def _trace(self, path: Path) -> Trace:
        time_s, values, numbers = read_trace(path)
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
