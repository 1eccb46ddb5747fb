"""Readers of the files that features are imported from, one for each suffix.

.npy      (T, D), the rows of one clip: that of the file's name, or `clip`
.npz      an array (T, D) per clip and its times (T,) as CLIP.time_s; or the arrays features (N, D),
          clip (N,) and time (N,)
.csv ...  a row per line: a column of clips, one of times, and all others are features
.h5       a group per clip, with the data sets features (T, D) and time_s (T,)

Times may be left out everywhere if a rate is given. `valid_column` is a column of a table, an array
CLIP.NAME of an .npz (beside `features` an array NAME), or a data set CLIP/NAME of an .h5. Nothing
is unpickled.
"""

import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from features.datasets.table_rows import read_rows
from features.errors import InputError, one_line
from features.imports.options import CLIP_COLUMN, TIME_COLUMN, ReadOptions
from features.imports.rows import ClipRows

FEATURES, TIMES = "features", "time_s"
# what numpy and h5py raise for a file that is damaged or of another form
DAMAGE = (ValueError, EOFError, KeyError, RuntimeError, TypeError, zipfile.BadZipFile, zlib.error)
VALID = {"1": True, "true": True, "0": False, "false": False}


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
    if options.times and not options.times.is_file():
        raise InputError(f"--times: there is no file {options.times}; check the path")
    times = np.load(options.times, allow_pickle=False) if options.times else None
    where = f"{path}, clip {clip!r}"
    yield ClipRows(clip, where, values, _times(times, values, where, options, "--times FILE.npy"))


def _npz(path: Path, options: ReadOptions) -> Iterator[ClipRows]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if FEATURES in arrays:
            yield from _npz_table(path, dict(arrays), options)
            return
        suffix, mark = f".{TIMES}", f".{options.valid_column}"
        others = {key + end for key in arrays for end in (suffix, mark)}
        if not (clips := [key for key in arrays if key not in others]):
            raise InputError(f"{path} holds no array; it needs one (rows, width) per clip")
        for clip in clips:
            times = arrays.get(clip + suffix)
            values, where = arrays[clip], f"{path}, clip {clip!r}"
            time_s = _times(times, values, where, options, f"an array {clip + suffix!r}")
            valid = _marks(arrays.get(clip + mark), where, options, f"array {clip + mark!r}")
            yield ClipRows(clip, where, values, time_s, valid)


def _npz_table(
    path: Path, arrays: dict[str, np.ndarray], options: ReadOptions
) -> Iterator[ClipRows]:
    values, clip_key = arrays[FEATURES], options.clip_column or CLIP_COLUMN
    time_key = options.clock_column
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
        given = values[rows]
        times = _of_rows(arrays, time_key, clips, rows, path)
        time_s = _times(times, given, where, options, f"an array {time_key!r}")
        marks = _of_rows(arrays, options.valid_column, clips, rows, path)
        valid = _marks(marks, where, options, f"array {options.valid_column!r}")
        yield ClipRows(clip, where, given, time_s, valid, rows.tolist())


def _of_rows(
    arrays: dict[str, np.ndarray],
    key: str | None,
    clips: np.ndarray,
    rows: np.ndarray,
    path: Path,
) -> np.ndarray | None:
    """The entries of some rows in an array; None if the file lacks it."""
    array = arrays.get(key or "")
    if array is None:
        return None
    if array.shape != clips.shape:
        raise InputError(
            f"{path}: {key!r} has the shape {array.shape}, the clips {clips.shape}; each row needs "
            "one entry"
        )
    return array[rows]


def _h5(path: Path, options: ReadOptions) -> Iterator[ClipRows]:
    with h5py.File(path, "r", locking=False) as file:
        if not len(file):
            raise InputError(f"{path} holds no group; it needs one per clip")
        for clip, group in file.items():
            where = f"{path}, clip {clip!r}"
            found = dict(group) if isinstance(group, h5py.Group) else {}
            if not isinstance(found.get(FEATURES), h5py.Dataset):
                raise InputError(
                    f"{where}: there is no data set {clip}/{FEATURES}; each clip is a group with "
                    f"{FEATURES} (rows, width) and {TIMES} (rows,)"
                )
            given = {k: v[()] for k, v in found.items() if isinstance(v, h5py.Dataset)}
            values, mark = given[FEATURES], options.valid_column or ""
            time_s = _times(given.get(TIMES), values, where, options, f"a data set {clip}/{TIMES}")
            valid = _marks(given.get(mark), where, options, f"data set {clip}/{mark}")
            yield ClipRows(clip, where, values, time_s, valid)


def _times(
    times: np.ndarray | None, values: np.ndarray, where: str, options: ReadOptions, what: str
) -> np.ndarray:
    """The times in a file, or those of a rate; `InputError` if there are both or none."""
    if times is not None:
        if options.has_rate_alone:
            raise InputError(f"{where}: it has times, and --fps is given; leave out --fps")
        return options.seconds(np.asarray(times))
    if options.fps is None:
        raise InputError(f"{where}: there are no times; give {what}, or rows a second with --fps")
    return np.arange(len(values) if np.ndim(values) else 0) / options.fps


def _marks(
    marks: np.ndarray | None, where: str, options: ReadOptions, what: str
) -> np.ndarray | None:
    """What says which rows are valid; None if the user has not named it."""
    if options.valid_column and marks is None:
        raise InputError(f"{where}: there is no {what}; add it, or leave out --valid-column")
    return marks if options.valid_column else None


@dataclass(slots=True)
class _TableClip:
    numbers: list[int] = field(default_factory=list)
    times: "array[float]" = field(default_factory=lambda: array("d"))
    values: "array[float]" = field(default_factory=lambda: array("d"))
    valid: list[bool] = field(default_factory=list)


def _table(path: Path, options: ReadOptions) -> Iterator[ClipRows]:
    """The clips of a table, in the order of their first rows."""
    clips: dict[str, _TableClip] = {}
    columns: tuple[str, ...] = ()
    clip_column = clock_column = None
    mark = options.valid_column
    for number, row in read_rows(path):
        if not clips:
            clip_column, clock_column = _columns(path, list(row), options)
            other = {clip_column, clock_column, mark, *options.drop}
            columns = tuple(name for name in row if name not in other)
            if not columns:
                raise InputError(
                    f"{path} has no column of features, only {', '.join(row)}; every column but "
                    "clip, time and --valid-column is one"
                )
        clip = row.get(clip_column, "") if clip_column else options.clip or path.stem
        if not clip:
            raise InputError(f"{path}, line {number}: {clip_column!r} is empty; name the clip")
        each = clips.setdefault(clip, _TableClip())
        each.numbers.append(number)
        if clock_column:
            each.times.append(_number(path, number, clock_column, row))
        each.valid.append(not mark or _is_valid(path, number, mark, row))
        each.values.extend(
            _number(path, number, name, row) if each.valid[-1] else 0.0 for name in columns
        )
    if not clips:
        raise InputError(f"{path} has no row below its header; write it again")
    unit = "row" if path.suffix.lower() == ".parquet" else "line"
    for clip, each in clips.items():
        where, n_rows = f"{path}, clip {clip!r}", len(each.numbers)
        values = np.frombuffer(each.values).reshape(n_rows, len(columns))
        times = options.seconds(np.frombuffer(each.times)) if clock_column else None
        yield ClipRows(
            clip,
            where,
            values,
            np.arange(n_rows) / (options.fps or 1) if times is None else times,
            np.array(each.valid) if mark else None,
            each.numbers,
            unit,
            columns,
        )


def _columns(path: Path, header: list[str], options: ReadOptions) -> tuple[str | None, str | None]:
    """The columns of clips and of times; None for one that a table does not have or need."""
    named = [
        *(options.clip_column, options.time_column, options.frame_column, options.valid_column),
        *options.drop,
    ]
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
        if time in header and time not in options.drop and time != options.frame_column:
            raise InputError(
                f"{path} has a column {time!r}, and --fps is given; leave out --fps, or the column "
                f"with --drop {time}"
            )
        return clip, options.frame_column
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


def _is_valid(path: Path, number: int, column: str, row: dict[str, str]) -> bool:
    cell = row.get(column, "")
    if (valid := VALID.get(cell.strip().lower().removesuffix(".0"))) is None:
        raise InputError(
            f"{path}, line {number}, column {column!r}: {cell!r} does not say whether the row is "
            "valid; it must be 1 or 0, true or false"
        )
    return valid


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
