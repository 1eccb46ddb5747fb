"""Data sets with a series of ratings per recording, such as MuSe, SEWA and RECOLA.

Two layouts are read. Valence and arousal in folders of their own with a file per recording, as in
MuSe (`timestamp,value,segment_id`) and RECOLA (`time;rater;rater;...`), or both in one file per
recording, as in SEWA (`name;timestamp;arousal;valence;liking`).
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from features.clip import Split
from features.datasets.base import DatasetIndex
from features.datasets.entries import (
    NO_SPLIT,
    SPLITS,
    DrawnSplitsConfig,
    Entry,
    Scale,
    find_media,
    index_entries,
    to_unit_range,
)
from features.datasets.table_rows import read_rows
from features.errors import InputError
from features.manifest.labels import NOT_NEGATIVE, ROUNDING_S, Labels

DIMENSIONS = ("valence", "arousal")
TIMES = ("timestamp", "time")
NOT_RATED = ("segment_id", "name", "liking", *TIMES)  # columns beside the ratings
PARTITION = "partition.csv"
MS_STEP = 5.0  # series have steps of .04 to .5 s: a larger one is in ms
MS = 1000
MISSING = {"", "nan"}


class SeriesConfig(DrawnSplitsConfig):
    """A series of ratings per recording, as MuSe, SEWA and RECOLA have them."""

    kind: Literal["series"] = "series"
    media: Path | None = None
    """The folder of the recordings, which have the names of the files of ratings; if null, the
    data set's."""
    time_unit: Literal["s", "ms"] | None = None
    """The unit of times; if null, ms if they are more than 5 apart."""
    scale: Scale = (-1.0, 1.0)
    """The range of the values, which is mapped to [-1, 1]."""

    def index(self, base: Path) -> DatasetIndex:
        """Return the recordings that have ratings and media."""
        if not self.root.is_dir():
            raise InputError(f"there is no folder {self.root}; give that of the data set")
        files = _find_series(self.root)
        media_folder = (self.media or self.root).resolve()
        media = find_media(media_folder)
        splits, notes = self._splits([*files])
        notes += [f"recording without ratings: {name}" for name in sorted(media.keys() - files)]
        entries: dict[str, Callable[[], Entry]] = {
            name: partial(
                self._entry, paths, media.get(name, media_folder / name), splits.get(name)
            )
            for name, paths in files.items()
        }
        return index_entries(self, base, entries, notes)

    def _entry(self, paths: tuple[Path, Path], media: Path, split: Split | None) -> Entry:
        columns = [
            _read_series(path, dimension, self.time_unit)
            for path, dimension in zip(paths, DIMENSIONS, strict=True)
        ]
        (time_s, _, numbers), (other_s, _, _) = columns
        if len(time_s) != len(other_s) or (time_s != other_s).any():
            raise InputError(
                f"{paths[0]} and {paths[1]} have {len(time_s)} and {len(other_s)} rows, or rows of "
                "other times; a rating needs both values: get the files again"
            )
        va = np.stack([values for _, values, _ in columns], axis=1)
        valid = np.isfinite(va[:, 0]) & np.isfinite(va[:, 1])
        if not valid.any():
            return Entry(media, None, split)  # hidden, as those of a test split are
        for k, path in enumerate(paths):
            name_of = partial(_name, path, numbers, DIMENSIONS[k])
            va[:, k] = to_unit_range(va[:, k], self.scale, name_of, "give scale=[LOW,HIGH]")
        va[~valid] = 0
        return Entry(media, Labels(va, valid, time_s), split)

    def _splits(self, names: list[str]) -> tuple[dict[str, Split], list[str]]:
        """Return the split of each recording, and a note on where it is from."""
        listed = next(iter(sorted(self.root.rglob(PARTITION))), None)
        splits = dict(_read_partition(listed)) if listed else dict(_splits_of_names(names))
        if self.has_shares:
            if splits:
                where = str(listed) if listed else "the names of its files"
                raise InputError(
                    f"{self.root} has a split, in {where}, and shares are given, too; leave the "
                    "shares out"
                )
            return self.draw(names), []
        if listed:
            lacking = [name for name in names if name not in splits]
            notes = [f"splits are those of {listed.name}"]
            return splits, notes + [f"{name} is not in {listed.name}" for name in lacking]
        if splits:
            return splits, ["splits are those of the files' names"]
        return {}, [NO_SPLIT]


def _find_series(root: Path) -> dict[str, tuple[Path, Path]]:
    """Return the files of valence and of arousal of each recording, by its name."""
    folders: dict[str, Path] = {}
    for folder in sorted(path for path in root.rglob("*") if path.is_dir()):
        name = folder.name.lower()
        if name in DIMENSIONS and any(folder.glob("*.csv")):
            if name in folders:
                raise InputError(
                    f"{folders[name]} and {folder} both hold ratings of {name}: give the folder of "
                    "one of them, which is one edition of the data set"
                )
            folders[name] = folder
    if len(folders) == 1:
        [(name, folder)] = folders.items()
        other = DIMENSIONS[1 - DIMENSIONS.index(name)]
        raise InputError(f"{root} has a folder {folder.name} but none of {other}; both are needed")
    if folders:
        valence, arousal = (
            {path.stem: path for path in sorted(folders[name].glob("*.csv"))} for name in DIMENSIONS
        )
        return {
            name: (
                valence.get(name, folders["valence"] / f"{name}.csv"),
                arousal.get(name, folders["arousal"] / f"{name}.csv"),
            )
            for name in sorted({*valence, *arousal})
        }
    found: dict[str, tuple[Path, Path]] = {}
    for path in sorted(root.rglob("*.csv")):
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline().strip().lower().replace(",", ";").split(";")
        if {*DIMENSIONS} <= {*header} and {*TIMES} & {*header}:
            found[path.stem] = path, path
    if not found:
        raise InputError(
            f"{root} holds no series of ratings: expected folders valence and arousal with a CSV "
            "file per recording, or CSV files with the columns timestamp, arousal and valence; "
            "for other tables, use the data set `table`"
        )
    return found


def _read_series(
    path: Path, dimension: str, unit: Literal["s", "ms"] | None
) -> tuple[Float64[np.ndarray, "L"], Float64[np.ndarray, "L"], list[int]]:
    """Return times in seconds, values (the mean of several raters) and the numbers of the lines.

    A value is NaN if it is missing.
    """
    times: list[float] = []
    values: list[float] = []
    numbers: list[int] = []
    segments: list[str] = []
    for number, row in read_rows(path):
        cells = {name.lower(): cell for name, cell in row.items()}
        time = next((name for name in TIMES if name in cells), None)
        rated = [dimension] if dimension in cells else [n for n in cells if n not in NOT_RATED]
        if time is None or not rated:
            raise InputError(
                f"{path} has the columns {', '.join(row)}: expected timestamp or time, and values"
            )
        times.append(_number(path, number, time, cells[time]))
        given = [
            _number(path, number, name, cells[name])
            for name in rated
            if cells[name].lower() not in MISSING
        ]
        values.append(float(np.mean(given)) if given else np.nan)
        numbers.append(number)
        segments.append(cells.get("segment_id", ""))
    if not times:
        raise InputError(f"{path} has no row below its header")
    time_s = np.array(times)
    steps = np.diff(time_s)
    if len(bad := np.flatnonzero(steps <= 0)):
        k = int(bad[0]) + 1
        what = "times must increase"
        if segments[k] != segments[k - 1]:
            what = f"the segment {segments[k]} overlaps the segment {segments[k - 1]}"
        raise InputError(
            f"{path}, line {numbers[k]}: {times[k]:g} follows {times[k - 1]:g}, but {what}; a "
            "moment has one label: remove one of the two"
        )
    if unit is None:
        unit = "ms" if len(steps) and np.median(steps) > MS_STEP else "s"
    if unit == "ms":
        time_s /= MS
    if time_s[0] < -ROUNDING_S:
        raise InputError(
            f"{path}, line {numbers[0]}: the time {times[0]:g} {unit} is negative; {NOT_NEGATIVE}"
        )
    return time_s, np.array(values), numbers


def _number(path: Path, number: int, column: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(f"{path}, line {number}: {column} = {cell!r} is no number; correct it")
    return value


def _read_partition(path: Path) -> Iterator[tuple[str, Split]]:
    for number, row in read_rows(path):
        cells = {name.lower(): cell for name, cell in row.items()}
        name, split = next(iter(cells.values())), cells.get("partition", "")
        if split.lower() not in SPLITS:
            raise InputError(
                f"{path}, line {number}: partition = {split!r} is no split; expected the columns "
                "id and partition, with train, devel or test"
            )
        yield name, SPLITS[split.lower()]


def _splits_of_names(names: list[str]) -> Iterator[tuple[str, Split]]:
    """Yield the split of names such as Train_DE_01."""
    for name in names:
        if split := SPLITS.get(name.partition("_")[0].lower()):
            yield name, split


def _name(path: Path, numbers: list[int], dimension: str, k: int) -> str:
    return f"{path}, line {numbers[k]}: {dimension}"
