"""A data set of one's own: a table with a row per frame, rating, span or clip."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from glob import escape
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

import numpy as np
from pydantic import Field

from features.clip import Split
from features.datasets.base import DatasetIndex
from features.datasets.entries import (
    MEDIA_SUFFIXES,
    SPLITS,
    DrawnSplitsConfig,
    Entry,
    Scale,
    check_subjects,
    find_media,
    index_entries,
    safe_id,
    to_unit_range,
)
from features.datasets.table_cells import Cells, Group
from features.datasets.table_columns import Columns, find_columns
from features.datasets.table_rows import read_rows
from features.errors import InputError
from features.manifest.labels import Labels
from features.media.video import Probe
from features.timeline import MAX_LENGTH_MISMATCH


class TableConfig(DrawnSplitsConfig):
    """A table in CSV, TSV, JSON Lines or Parquet; `root` is the file."""

    kind: Literal["table"] = "table"
    media: Path | None = None
    """The folder that paths in the table are relative to, or that holds the clips; if null, that
    of the table."""
    columns: Columns = Columns()
    """The column of each role; one that is left out is guessed from the usual names."""
    time_unit: Literal["s", "ms"] | None = None
    """The unit of times; if null, ms if the column's name ends with ms, else s."""
    first_frame: Literal[0, 1] | None = None
    """The number of a video's first frame; if null, the smallest in the table."""
    rate_hz: Annotated[float, Field(gt=0, le=1000)] | None = None
    """The rate of the labels, if rows have neither time nor frame and do not follow the video's."""
    scale: Scale = (-1.0, 1.0)
    """The range of the values, which is mapped to [-1, 1]."""
    valence_scale: Scale | None = None
    """That of valence, if it differs."""
    arousal_scale: Scale | None = None
    """That of arousal, if it differs."""
    subjects_cross: bool = False
    """Accept subjects that are in two splits."""

    def index(self, base: Path) -> DatasetIndex:
        """Return the clips of the table; one whose media cannot be used is left out."""
        return _Reader(self, base.resolve()).index()


class _Reader:
    """Reads a table once and makes an entry of each clip."""

    def __init__(self, config: TableConfig, base: Path) -> None:
        self.config, self.base, self.table = config, base, config.root
        self.media = (config.media or config.root.parent).resolve()
        first = next(read_rows(self.table), None)
        if first is None:
            raise InputError(f"{self.table} has no row below its header")
        found = find_columns(self.table, [*first[1]], config.columns)
        self.found = found
        self.cells = Cells(self.table, found, config.time_unit or found.time_unit)
        self.scales = {
            "valence": config.valence_scale or config.scale,
            "arousal": config.arousal_scale or config.scale,
        }

    def index(self) -> DatasetIndex:
        groups = self.cells.groups()
        media = self._media(groups)
        ids = self._ids(groups, media)
        splits = self._splits(groups, media, ids)
        notes = [*self._notes(), *self._count_frames_from_0(groups), *self._map_values(groups)]
        if not splits:
            notes.append(
                "no clip has a split, which training needs; have them drawn by subject with "
                "val_share=0.2, or give a column with columns.split=NAME"
            )
        entries: dict[str, Callable[[], Entry]] = {}
        for key, group in groups.items():
            clip = ids[key]
            group = self.cells.sort(clip, group)
            entries[clip] = partial(self._entry, key, group, media[key], splits.get(clip))
        return index_entries(self.config, self.base, entries, notes)

    def _entry(self, key: str, group: Group, media: Path, split: Split | None) -> Entry:
        if not media.exists():
            if "path" in self.found.roles:
                raise InputError(
                    f"{self.cells.column(group.first, 'path')} = {group.constants['path']!r}: "
                    f"{media} does not exist; correct the cell, or give the folder that paths are "
                    "relative to with --media"
                )
            raise InputError(
                f"{self.cells.column(group.first, 'clip')} = {key!r}: no file of video or sound "
                f"below {self.media} has this name; give their folder with --media, or the column "
                "of paths with columns.path=NAME"
            )
        subject = group.constants.get("subject") or None
        return Entry(media, partial(self._labels, group), split, subject)

    def _media(self, groups: dict[str, Group]) -> dict[str, Path]:
        """Return the file or folder of each clip, which may not exist."""
        if "path" in self.found.roles:
            return {key: self._path(group) for key, group in groups.items()}
        by_stem = find_media(self.media)
        return {
            key: by_stem.get(key) or by_stem.get(Path(key).stem) or self.media / key
            for key in groups
        }

    def _path(self, group: Group) -> Path:
        written = group.constants["path"]
        if not written:
            raise InputError(f"{self.cells.column(group.first, 'path')} is empty; name a file")
        if "://" in written:
            url = urlsplit(written)
            if url.scheme != "file" or url.netloc not in ("", "localhost"):
                raise InputError(
                    f"{self.cells.column(group.first, 'path')} = {written!r} is not on this "
                    "machine; download the media, and name them by paths or by file:///PATH"
                )
            written = unquote(url.path)
        path = self.media / written  # an absolute path stays as it is
        if path.exists():
            return path
        alike = [each for each in path.parent.glob(f"{escape(path.name)}.*") if _is_media(each)]
        return alike[0] if len(alike) == 1 else path  # a name without suffix

    def _ids(self, groups: dict[str, Group], media: dict[str, Path]) -> dict[str, str]:
        """Return the id of each clip: its name, or that of its file, or the path if files of
        several folders have one name."""
        stems = Counter(path.stem for path in media.values())
        ids: dict[str, str] = {}
        owners: dict[str, str] = {}
        for key, path in media.items():
            name = path.stem if stems[path.stem] == 1 else str(Path(key).with_suffix(""))
            if "clip" in self.found.roles:
                name = str(Path(key).with_suffix("")) if _is_media(Path(key)) else key
            ids[key] = safe_id(name)
            other = owners.setdefault(ids[key].casefold(), key)
            if other != key:
                raise InputError(
                    f"{self.cells.where(groups[key].first)}: the clips {other!r} and {key!r} would "
                    f"both have the id {ids[key]!r}; give a column of names with columns.clip=NAME"
                )
        return ids

    def _splits(
        self, groups: dict[str, Group], media: dict[str, Path], ids: dict[str, str]
    ) -> dict[str, Split]:
        config = self.config
        subjects = {  # the clips of a file without subject stay together
            ids[key]: group.constants.get("subject") or f"file {media[key]}"
            for key, group in groups.items()
        }
        if "split" not in self.found.roles:
            if not config.has_shares:
                return {}
            drawn = config.draw([*subjects.values()])
            return {clip: drawn[subject] for clip, subject in subjects.items()}
        if config.has_shares:
            raise InputError(
                f"{self.table} has a column of splits ({self.found.roles['split']!r}), and shares "
                "are given, too; leave the shares out, or the column with columns.split=null"
            )
        splits: dict[str, Split] = {}
        for key, group in groups.items():
            name = group.constants["split"]
            if name and name.lower() not in SPLITS:
                raise InputError(
                    f"{self.cells.column(group.first, 'split')} = {name!r} is no split: use train, "
                    "val or test, or leave the column out with columns.split=null"
                )
            if name:
                splits[ids[key]] = SPLITS[name.lower()]
        if not config.subjects_cross:
            check_subjects({clip: (subjects[clip], splits[clip]) for clip in splits}, self.table)
        return splits

    def _count_frames_from_0(self, groups: dict[str, Group]) -> list[str]:
        """Change the numbers of frames; returns a note on it."""
        if self.found.clock != ("frame",):
            return []
        smallest = int(min(at[0] for group in groups.values() for at in group.at))
        first = self.config.first_frame
        if first is None and smallest > 1:
            raise InputError(
                f"{self.table}: the smallest number of a frame is {smallest}; say what the first "
                "frame of a video has, with first_frame=0 or first_frame=1"
            )
        first = smallest if first is None else first
        if smallest < first:
            raise InputError(f"{self.table} has a frame {smallest}, but first_frame is {first}")
        for group in groups.values():
            group.at = [(at[0] - first,) for at in group.at]
        return [f"frames count from {first}; a frame without row is not annotated"]

    def _map_values(self, groups: dict[str, Group]) -> Iterator[str]:
        """Map the values of all rows from their scales to [-1, 1]; yields notes."""
        numbers = [number for group in groups.values() for number in group.numbers]
        va = np.array([row for group in groups.values() for row in group.va])  # (N, 2)
        for k, (role, (low, high)) in enumerate(self.scales.items()):
            lowest = np.nanmin(va[:, k], initial=np.inf)
            if low < 0 <= lowest < np.inf:
                yield (
                    f"{role} is never below 0 on a scale from {low:g} to {high:g}; if it ranges "
                    f"from 0 to {high:g}, give {role}_scale=[0,{high:g}]"
                )
            va[:, k] = to_unit_range(
                va[:, k],
                (low, high),
                partial(_name, self.cells, numbers, role),
                f"give scale=[LOW,HIGH] or {role}_scale=[LOW,HIGH]",
            )
        start = 0
        for group in groups.values():
            group.va = [(v, a) for v, a in va[start : start + len(group.va)].tolist()]
            start += len(group.va)

    def _labels(self, group: Group, probe: Probe) -> Labels:
        """Return the labels of a clip, by the columns that have the times of its rows."""
        va = np.array(group.va, dtype=np.float64)  # (L, 2)
        valid = np.isfinite(va[:, 0])
        va[~valid] = 0
        at = np.array(group.at, dtype=np.float64)  # (L, columns of the clock)
        match self.found.clock:
            case ("frame",):
                frames = at[:, 0].astype(np.int64)
                n_rows = max(probe.n_frames, int(frames[-1]) + 1)
                every, is_valid = np.zeros((n_rows, 2)), np.zeros(n_rows, dtype=bool)
                every[frames], is_valid[frames] = va, valid
                return Labels(every, is_valid)
            case ("time",):
                return Labels(va, valid, at[:, 0].copy())
            case ("start", "end"):
                return Labels(va, valid, at[:, 0].copy(), at[:, 1].copy())
        if self.config.rate_hz:
            return Labels(va, valid, np.arange(len(va)) / self.config.rate_hz)
        if not probe.n_frames:
            raise InputError(
                "its rows have no time, and there is no video whose frames they could be; give "
                "rate_hz, or a column of times"
            )
        if len(va) == 1 and probe.mean_fps:
            return Labels(va, valid, np.zeros(1), np.array([probe.n_frames / probe.mean_fps]))
        if abs(len(va) - probe.n_frames) > MAX_LENGTH_MISMATCH:
            raise InputError(
                f"its {len(va)} rows have no time, and are not those of its {probe.n_frames} "
                "frames; say which column has their times with columns.time=NAME, or give their "
                "rate with rate_hz"
            )
        return Labels(va, valid)

    def _notes(self) -> Iterator[str]:
        yield "columns: " + ", ".join(f"{r} = {name!r}" for r, name in self.found.roles.items())
        if self.found.ignored:
            yield f"columns that are not used: {', '.join(map(repr, self.found.ignored))}"
        if not self.found.clock:
            rate = self.config.rate_hz
            yield (
                f"rows have neither time nor frame and are taken at {rate:g} Hz"
                if rate
                else "rows have neither time nor frame: those of a clip are taken for its frames, "
                "and a single one for the whole clip"
            )
        elif self.found.clock != ("frame",):
            yield f"times are in {self.cells.unit}"


def _is_media(path: Path) -> bool:
    return path.suffix.lower() in MEDIA_SUFFIXES


def _name(cells: Cells, numbers: Sequence[int], role: str, k: int) -> str:
    return cells.column(numbers[k], role)
