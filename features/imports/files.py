"""Readers of the files that features are imported from, one for each suffix.

.npy      (T, D), the rows of one clip: that of the file's name, or `clip`
.npz      an array (T, D) per clip and its times (T,) as CLIP.time_s; or the arrays features (N, D),
          clip (N,) and time (N,)
.csv ...  a row per line: a column of clips, one of times, and all others are features
.h5       a group per clip, with the data sets features (T, D) and time_s (T,)

Times may be left out everywhere if a rate is given. Nothing is unpickled.
"""

import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from features.datasets.table_rows import read_rows
from features.errors import InputError, one_line
from features.imports.rows import ClipRows

FEATURES, TIMES = "features", "time_s"
CLIP_COLUMN, TIME_COLUMN = "clip", "time"
NAMES_CLIPS = (".npz", ".h5", ".hdf5")
# what numpy and h5py raise for a file that is damaged or of another form
DAMAGE = (ValueError, EOFError, KeyError, RuntimeError, TypeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read."""

    clip: str | None = None
    """The clip of a file that names none; None: the name of the file without its suffix."""
    fps: float | None = None
    """Rows a second, from 0; None: the file has times."""
    times: Path | None = None
    """A .npy with the times of a .npy."""
    clip_column: str | None = None
    """None: `clip`, if the table has it; else it is of one clip."""
    time_column: str | None = None
    """None: `time`."""
    drop: tuple[str, ...] = ()
    """Columns of a table that are no features."""

    def __post_init__(self) -> None:
        """Check what the options say together."""
        if self.fps is not None and not (0 < self.fps < float("inf")):
            raise InputError(f"--fps {self.fps:g}: give rows a second, above 0")
        if self.fps is not None and (self.times or self.time_column):
            other = "--times" if self.times else "--time-column"
            raise InputError(f"--fps and {other} both say when rows are; give one of them")


def read_clips(path: Path, options: ReadOptions) -> Iterator[ClipRows]:
    """Yield the rows of each clip in a file; `InputError` if it is not of the documented form."""
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(
            f"{path} ends in {path.suffix!r}; features are read from {', '.join(READERS)}"
        )
    if not path.is_file():
        raise InputError(f"there is no file {path}; check the path")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty; write it again")
    try:
        yield from read(path, options)
    except (OSError, *DAMAGE) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        objects = "allow_pickle" in str(error)  # as numpy advises, which would run foreign code
        why = "objects of Python, or another format" if objects else one_line(error)
        raise InputError(
            f"{path} is damaged, or no {path.suffix} of numbers ({why}); write it again"
        ) from error


def _npy(path: Path, options: ReadOptions) -> Iterator[ClipRows]:
    values, clip = np.load(path, mmap_mode="r", allow_pickle=False), options.clip or path.stem
    if isinstance(values, np.lib.npyio.NpzFile):
        raise InputError(f"{path} is an .npz; give it that suffix")
    times = np.load(options.times, allow_pickle=False) if options.times else None
    where = f"{path}, clip {clip!r}"
    yield ClipRows(clip, where, values, _times(times, values, where, options, "--times FILE.npy"))


def _npz(path: Path, options: ReadOptions) -> Iterator[ClipRows]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if FEATURES in arrays:
            yield from _npz_table(path, dict(arrays), options)
            return
        suffix = f".{TIMES}"
        clocks = {key + suffix for key in arrays}
        if not (clips := [key for key in arrays if key not in clocks]):
            raise InputError(f"{path} holds no array; it needs one (rows, width) per clip")
        for clip in clips:
            times = arrays.get(clip + suffix)
            values, where = arrays[clip], f"{path}, clip {clip!r}"
            remedy = f"an array {clip + suffix!r}"
            yield ClipRows(clip, where, values, _times(times, values, where, options, remedy))


def _npz_table(
    path: Path, arrays: dict[str, np.ndarray], options: ReadOptions
) -> Iterator[ClipRows]:
    values, clip_key = arrays[FEATURES], options.clip_column or CLIP_COLUMN
    time_key = options.time_column or TIME_COLUMN
    if clip_key not in arrays:
        raise InputError(
            f"{path} has the array {FEATURES!r} and no {clip_key!r}, only {', '.join(arrays)}; it "
            "must name the clip of each row: call it so, or say which with --clip-column"
        )
    clips = arrays[clip_key]
    if clips.shape != values.shape[:1] or clips.dtype.kind not in "USiu":
        raise InputError(
            f"{path}: {clip_key!r} has the shape {clips.shape} and type {clips.dtype}, "
            f"{FEATURES!r} the shape {values.shape}; it must be one name per row"
        )
    clips = clips.astype(str)
    for clip in dict.fromkeys(clips.tolist()):
        rows, where = np.flatnonzero(clips == clip), f"{path}, clip {clip!r}"
        times = arrays.get(time_key)
        if times is not None:
            if times.shape != clips.shape:
                raise InputError(
                    f"{path}: {time_key!r} has the shape {times.shape}, {clip_key!r} "
                    f"{clips.shape}; each row needs one time"
                )
            times = times[rows]
        given = values[rows]
        time_s = _times(times, given, where, options, f"an array {time_key!r}")
        yield ClipRows(clip, where, given, time_s, rows.tolist())


def _h5(path: Path, options: ReadOptions) -> Iterator[ClipRows]:
    with h5py.File(path, "r", locking=False) as file:
        if not len(file):
            raise InputError(f"{path} holds no group; it needs one per clip")
        for clip, group in file.items():
            where = f"{path}, clip {clip!r}"
            found = dict(group) if isinstance(group, h5py.Group) else {}
            if not isinstance(features := found.get(FEATURES), h5py.Dataset):
                raise InputError(
                    f"{where}: there is no data set {clip}/{FEATURES}; each clip is a group with "
                    f"{FEATURES} (rows, width) and {TIMES} (rows,)"
                )
            values, times = features[()], found.get(TIMES)
            given = times[()] if isinstance(times, h5py.Dataset) else None
            time_s = _times(given, values, where, options, f"a data set {clip}/{TIMES}")
            yield ClipRows(clip, where, values, time_s)


def _times(
    times: np.ndarray | None, values: np.ndarray, where: str, options: ReadOptions, what: str
) -> np.ndarray:
    """The times in a file, or those of a rate; `InputError` if there are both or none."""
    if times is not None:
        if options.fps is not None:
            raise InputError(f"{where}: it has times, and --fps is given; leave out --fps")
        return np.asarray(times)
    if options.fps is None:
        raise InputError(f"{where}: there are no times; give {what}, or rows a second with --fps")
    return np.arange(len(values) if np.ndim(values) else 0) / options.fps


@dataclass(slots=True)
class _TableClip:
    numbers: list[int]
    time_s: "array[float]"
    values: "array[float]"


def _table(path: Path, options: ReadOptions) -> Iterator[ClipRows]:
    """The clips of a table, in the order of their first rows."""
    clips: dict[str, _TableClip] = {}
    columns: tuple[str, ...] = ()
    clip_column = time_column = None
    for number, row in read_rows(path):
        if not clips:
            clip_column, time_column = _columns(path, list(row), options)
            other = {clip_column, time_column, *options.drop}
            columns = tuple(name for name in row if name not in other)
            if not columns:
                raise InputError(
                    f"{path} has no column of features, only {', '.join(row)}; every column but "
                    "clip and time is one"
                )
        clip = row.get(clip_column, "") if clip_column else options.clip or path.stem
        if not clip:
            raise InputError(f"{path}, line {number}: {clip_column!r} is empty; name the clip")
        each = clips.setdefault(clip, _TableClip([], array("d"), array("d")))
        each.numbers.append(number)
        if time_column:
            each.time_s.append(_number(path, number, time_column, row))
        each.values.extend(_number(path, number, name, row) for name in columns)
    if not clips:
        raise InputError(f"{path} has no row below its header; write it again")
    unit = "row" if path.suffix.lower() == ".parquet" else "line"
    for clip, each in clips.items():
        where, n_rows = f"{path}, clip {clip!r}", len(each.numbers)
        values = np.frombuffer(each.values).reshape(n_rows, len(columns))
        times = (
            np.frombuffer(each.time_s) if time_column else np.arange(n_rows) / (options.fps or 1)
        )
        yield ClipRows(clip, where, values, times, each.numbers, unit, columns)


def _columns(path: Path, header: list[str], options: ReadOptions) -> tuple[str | None, str | None]:
    """The columns of clips and of times; None for one that a table does not have or need."""
    named = [options.clip_column, options.time_column, *options.drop]
    if missing := [name for name in named if name and name not in header]:
        raise InputError(f"{path} has no column {missing[0]!r}; it has {', '.join(header)}")
    clip = options.clip_column or (CLIP_COLUMN if CLIP_COLUMN in header else None)
    if options.clip and clip:
        raise InputError(
            f"{path} has a column {clip!r}, and --clip is given; leave out --clip, or the column "
            f"with --drop {clip}"
        )
    time = options.time_column or TIME_COLUMN
    if options.fps is not None:
        if time in header and time not in options.drop:
            raise InputError(
                f"{path} has a column {time!r}, and --fps is given; leave out --fps, or the column "
                f"with --drop {time}"
            )
        return clip, None
    if time not in header:
        raise InputError(
            f"{path} has no column {time!r}, only {', '.join(header)}; say which one has the times "
            "in seconds with --time-column, or give rows a second with --fps"
        )
    return clip, time


def _number(path: Path, number: int, column: str, row: dict[str, str]) -> float:
    cell = row.get(column, "")
    try:
        return float(cell)
    except ValueError:
        raise InputError(
            f"{path}, line {number}, column {column!r}: {cell!r} is no number; every column but "
            f"clip and time must hold numbers: correct the cell, or leave out the column with "
            f"--drop {column}"
        ) from None


Reader = Callable[[Path, ReadOptions], Iterator[ClipRows]]
READERS: dict[str, Reader] = {
    ".npy": _npy,
    ".npz": _npz,
    ".h5": _h5,
    ".hdf5": _h5,
    ".csv": _table,
    ".tsv": _table,
    ".parquet": _table,
}
