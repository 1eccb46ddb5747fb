"""Reads the records of a feature set chunk by chunk and sums them up.

Every byte is verified against the sha256 in the record's commit, as by `verify`. A record that is
damaged, or that no later stage would accept, is listed and left out of the sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import zarr
from jaxtyping import Bool, Float32, Float64

from features.clip import Track
from features.errors import LaterVersion, StoreError
from features.maintenance.statistics.moments import RowStatistics
from features.store.backend import StoreBackend
from features.store.commit import read_commit
from features.store.layout import METADATA
from features.store.record import open_arrays
from features.timeline import extend_times

# what may be raised for a record that is not as committed, or not written by vaflow
DAMAGE = (StoreError, LaterVersion, ValueError, KeyError, OSError)
ATTEMPTS = 2  # a writer may replace a record while it is read


@dataclass(frozen=True, slots=True)
class EmptyClip:
    """A clip without a valid row."""

    clip: str
    n_rows: int
    note: str | None
    """The note of its record, which says why."""


@dataclass(frozen=True, slots=True)
class DamagedRecord:
    """A record that is left out of the sums."""

    clip: str
    what: str
    """What is wrong with it."""


@dataclass(frozen=True, slots=True)
class SetSummary:
    """Sums over some records of one feature set; a monoid under `+`."""

    moments: RowStatistics
    """Moments of the valid rows."""
    n_clips: int = 0
    n_rows: int = 0
    duration_s: float = 0.0
    """A row lasts until the next one, the last row of a clip as long as the median row."""
    valid_s: float = 0.0
    """Duration of the valid rows."""
    n_bytes: int = 0
    """Size of the records' files."""
    n_not_finite: int = 0
    """Number of infinite values and NaNs, in records that are left out because of them."""
    empty: tuple[EmptyClip, ...] = ()
    damaged: tuple[DamagedRecord, ...] = ()

    def __add__(self, other: "SetSummary") -> "SetSummary":
        names = [field.name for field in fields(self)]
        return SetSummary(*(getattr(self, name) + getattr(other, name) for name in names))


def scan_records(
    backend: StoreBackend,
    set_name: str,
    clips: Sequence[str],
    width: int,
    on_mean_vector: Callable[[int, Float32[np.ndarray, "D"]], None],
) -> SetSummary:
    """Return the sums over these records, whose rows must have `width` numbers.

    `on_mean_vector` is called with the index of a clip in `clips` and the mean of its valid rows,
    scaled to length 1; it is not called for a clip without one. Raises `Unreachable` if the object
    store does not answer.
    """
    summary = SetSummary(RowStatistics.none(width))
    for index, clip in enumerate(clips):
        record = _scan_record(backend, set_name, clip, width)
        length = np.linalg.norm(record.moments.mean)
        if length:
            on_mean_vector(index, (record.moments.mean / length).astype(np.float32))
        summary += record
    return summary


def _scan_record(backend: StoreBackend, set_name: str, clip: str, width: int) -> SetSummary:
    name, what, none = f"{set_name}/{clip}", "", SetSummary(RowStatistics.none(width))
    for _ in range(ATTEMPTS):
        folder = ""
        try:
            with backend.record(name) as record:
                folder = str(record)
                return _read_record(record, clip, none)
        except DAMAGE as error:  # the folder may be a temporary one that the user does not know
            what = str(error).replace(folder, backend.path(name)) if folder else str(error)
    return replace(none, damaged=(DamagedRecord(clip, what),))


def _read_record(folder: Path, clip: str, none: SetSummary) -> SetSummary:
    """Return the sums over the record in a folder; raise one of `DAMAGE` if it is not sound.

    `none` is the summary of no record of the set.
    """
    commit = read_commit(folder)
    if commit is None:
        raise StoreError(f"{METADATA} is missing: the folder is no record")
    arrays = open_arrays(folder, commit, hash_chunks=True)
    n_numbers, width = arrays["values"].shape[1], len(none.moments.mean)
    if n_numbers != width:
        raise StoreError(
            f"its rows have {n_numbers} numbers, those of the set's first clip {width}"
        )
    time_s, valid = (np.asarray(arrays[name][...]) for name in ("time_s", "valid"))
    durations_s = _row_durations_s(time_s)
    moments, n_not_finite = _moments(arrays["values"], time_s, valid)
    if n_not_finite:
        damaged = DamagedRecord(clip, f"{n_not_finite} of its numbers are not finite")
        return replace(none, n_not_finite=n_not_finite, damaged=(damaged,))
    return SetSummary(
        moments,
        n_clips=1,
        n_rows=len(valid),
        duration_s=float(durations_s.sum()),
        valid_s=float(durations_s[valid].sum()),
        n_bytes=sum((folder / file).stat().st_size for file in (METADATA, *commit.files)),
        empty=() if moments.n else (EmptyClip(clip, len(valid), commit.note),),
    )


def _moments(
    values: zarr.Array, time_s: Float64[np.ndarray, "T"], valid: Bool[np.ndarray, "T"]
) -> tuple[RowStatistics, int]:
    """Return the moments of the valid rows and the number of values that are not finite.

    If a value is not finite, the moments are meaningless.
    """
    moments, n_not_finite = RowStatistics.none(values.shape[1]), 0
    for start in range(0, len(valid), values.chunks[0]):
        rows = slice(start, start + values.chunks[0])
        block = np.asarray(values[rows])  # (at most a chunk, D)
        n_not_finite += block.size - int(np.count_nonzero(np.isfinite(block)))
        if not n_not_finite:
            track = Track(block, time_s[rows], valid[rows])  # checks the rules of a track
            moments += RowStatistics.of(track.values[track.valid])
    return moments, n_not_finite


def _row_durations_s(time_s: Float64[np.ndarray, "T"]) -> Float64[np.ndarray, "T"]:
    """Return the duration of each row; raise `ValueError` if the times do not increase strictly."""
    if not np.isfinite(time_s).all():
        raise ValueError("time_s must be finite")
    if not len(time_s):
        return np.zeros(0)
    durations_s = np.diff(extend_times(time_s, 1))
    if np.any(durations_s <= 0):
        row = int(np.argmax(durations_s <= 0)) + 1
        raise ValueError(f"time_s must increase strictly; it does not at row {row}")
    return durations_s
