"""What the records of a feature set add up to, read chunk by chunk: none is ever held whole.

Every byte is held to the sha256 that its record commits, as `verification` does. A record for which
that fails, or which no later stage would take, is named and left out of the sums.
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
from features.store.commit import Commit, read_commit
from features.store.layout import METADATA
from features.store.record import open_arrays
from features.timeline import extend_times

# what a record that is not as committed, or none of ours, may raise
DAMAGE = (StoreError, LaterVersion, ValueError, KeyError, OSError)
ATTEMPTS = 2  # a writer may have put another record in the place of one that is being read


@dataclass(frozen=True, slots=True)
class EmptyClip:
    """A clip of which nothing was seen or heard."""

    clip: str
    n_rows: int
    """None of them is valid."""
    note: str | None
    """What its record says of that."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record that is left out."""

    clip: str
    what: str


@dataclass(frozen=True, slots=True)
class SetSummary:
    """What is known of some records of one set; forms a monoid under `+`."""

    moments: RowStatistics
    """Of the valid rows."""
    n_clips: int = 0
    n_rows: int = 0
    seconds: float = 0.0
    """Of all rows: each lasts until the next, the last as long as is usual in its clip."""
    covered_s: float = 0.0
    """Of the valid rows."""
    n_bytes: int = 0
    """Of the files of the records."""
    n_not_finite: int = 0
    """Numbers that are infinite or none, in records that are left out for it."""
    blank: tuple[EmptyClip, ...] = ()
    damaged: tuple[Damaged, ...] = ()

    def __add__(self, other: "SetSummary") -> "SetSummary":
        names = [field.name for field in fields(self)]
        return SetSummary(*(getattr(self, name) + getattr(other, name) for name in names))


def scan_records(
    place: StoreBackend,
    set_name: str,
    clips: Sequence[str],
    width: int,
    on_direction: Callable[[int, Float32[np.ndarray, "D"]], None],
) -> SetSummary:
    """What these records add up to, of which each row must have `width` numbers.

    `on_direction` hears of each clip that has one, by its number among `clips`: the mean of its
    valid rows, as a vector of length 1. `Unreachable` where an object store does not answer.
    """
    found = SetSummary(RowStatistics.none(width))
    for number, clip in enumerate(clips):
        record = _record(place, set_name, clip, width)
        length = np.linalg.norm(record.moments.mean)
        if length:
            on_direction(number, (record.moments.mean / length).astype(np.float32))
        found += record
    return found


def _record(place: StoreBackend, set_name: str, clip: str, width: int) -> SetSummary:
    """What is known of one record, sound or not."""
    name, why = f"{set_name}/{clip}", ""
    for _ in range(ATTEMPTS):
        folder = ""
        try:
            with place.record(name) as record:
                folder = str(record)
                return _read(record, clip, width)
        except DAMAGE as error:  # the folder it was downloaded to tells a person nothing
            why = str(error).replace(folder, place.path(name)) if folder else str(error)
    return replace(SetSummary(RowStatistics.none(width)), damaged=(Damaged(clip, why),))


def _read(folder: Path, clip: str, width: int) -> SetSummary:
    """What is known of the record in a folder; raises one of `DAMAGE` where it is not sound."""
    commit = read_commit(folder)
    if commit is None:
        raise StoreError(f"{METADATA} is missing: the folder is no record")
    arrays = _arrays(folder, commit, width)
    time_s, valid = (np.asarray(arrays[name][...]) for name in ("time_s", "valid"))
    steps_s = _steps_s(time_s)
    moments, n_not_finite = _moments(arrays["values"], time_s, valid)
    if n_not_finite:
        what = f"{n_not_finite} of its numbers are not finite"
        without = SetSummary(RowStatistics.none(width))
        return replace(without, n_not_finite=n_not_finite, damaged=(Damaged(clip, what),))
    return SetSummary(
        moments,
        n_clips=1,
        n_rows=len(valid),
        seconds=float(steps_s.sum()),
        covered_s=float(steps_s[valid].sum()),
        n_bytes=sum((folder / file).stat().st_size for file in (METADATA, *commit.files)),
        blank=() if moments.n else (EmptyClip(clip, len(valid), commit.note),),
    )


def _arrays(folder: Path, commit: Commit, width: int) -> dict[str, zarr.Array]:
    """The arrays of a record, every byte of which is as it was committed."""
    arrays = open_arrays(folder, commit, hash_chunks=True)
    found = arrays["values"].shape[1]
    if found != width:
        raise StoreError(f"its rows have {found} numbers, those of the set's first clip {width}")
    return arrays


def _moments(
    values: zarr.Array, time_s: Float64[np.ndarray, "T"], valid: Bool[np.ndarray, "T"]
) -> tuple[RowStatistics, int]:
    """Those of the valid rows, and how many numbers are not finite; then the first mean nothing."""
    moments, n_not_finite = RowStatistics.none(values.shape[1]), 0
    for start in range(0, len(valid), values.chunks[0]):
        rows = slice(start, start + values.chunks[0])
        block = np.asarray(values[rows])  # (at most a chunk, D)
        n_not_finite += block.size - int(np.count_nonzero(np.isfinite(block)))
        if not n_not_finite:
            taken = Track(block, time_s[rows], valid[rows])  # holds it to what tracks must be
            moments += RowStatistics.of(taken.values[taken.valid])
    return moments, n_not_finite


def _steps_s(time_s: Float64[np.ndarray, "T"]) -> Float64[np.ndarray, "T"]:
    """How long each row lasts; `ValueError` where one is not later than the one before it."""
    if not np.isfinite(time_s).all():
        raise ValueError("time_s must be finite")
    if not len(time_s):
        return np.zeros(0)
    steps_s = np.diff(extend_times(time_s, 1))
    if np.any(steps_s <= 0):
        row = int(np.argmax(steps_s <= 0)) + 1
        raise ValueError(f"time_s must increase strictly; it does not at row {row}")
    return steps_s
