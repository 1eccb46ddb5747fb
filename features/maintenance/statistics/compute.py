"""What the features of a whole store are like: a pass over every row, by dask, block by block.

The records of a set are cut into partitions, by number alone, so that the sums are the same on any
machine. A partition reads its records one after the other, a chunk at a time, so memory depends
neither on how many they are nor on how long; there are `PARTITIONS_AT_MOST`, for a graph of a node
per record, or per chunk, would outgrow both. What grows with the store, in a temporary file, is a
vector per clip, to find pairs that may be the same.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import Float32

from features.errors import InputError, StoreError
from features.maintenance.statistics.duplicates import Nearest, nearest_pairs
from features.maintenance.statistics.moments import RowStatistics
from features.maintenance.statistics.result import Coverage, NearPair, SetStatistics
from features.maintenance.statistics.scan import SetSummary, scan_records
from features.manifest.manifest import read_manifest
from features.spec import MODALITY, FeatureSpec
from features.store.backend import StoreBackend
from features.store.feature_store import FeatureStore
from features.store.layout import array_layout
from features.system.parallel import parallel_sum

CLIPS_AT_LEAST = 16  # of a partition: dask takes a millisecond for each
PARTITIONS_AT_MOST = 1024
PAIRS = 10  # that are listed, unless told


@dataclass(frozen=True, slots=True)
class Partition:
    """Some clips of a set, which one thread reads one after the other."""

    first: int
    """The number of the first of them among all clips of the set."""
    clips: tuple[str, ...]


def statistics(
    path: str,
    sets: Collection[str] = (),
    manifest: Path | None = None,
    *,
    n_pairs: int = PAIRS,
    n_threads: int | None = None,
    on_clips: Callable[[int, int], None] | None = None,
) -> tuple[SetStatistics, ...]:
    """What the store's feature sets are like, or those of these names.

    `n_pairs` are listed of the pairs of clips that are most alike; with 0 none is looked for.
    `on_clips` hears how many clips of how many are read. `InputError` where there is no store, no
    set in it, or none of a name that is wanted.
    """
    if n_pairs < 0:
        raise InputError(f"pairs = {n_pairs}: how many to list, 0 or more")
    store = FeatureStore.open(path)
    wanted = _wanted(store, sets)
    listed = None if manifest is None else [clip.id for clip in read_manifest(manifest).clips]
    clips = {name: store.clip_ids(name) for name in wanted}
    heard = _counting(sum(map(len, clips.values())), on_clips)
    return tuple(
        _of_set(store.backend, spec, clips[name], listed, n_pairs, n_threads, heard)
        for name, spec in wanted.items()
    )


def _wanted(store: FeatureStore, names: Collection[str]) -> dict[str, FeatureSpec]:
    """The specs of the sets that are asked for, by name."""
    found = store.feature_sets()
    if not found:
        raise InputError(
            f"{store.backend.path()} has no feature set yet; "
            "`vaflow run extract-features` makes them"
        )
    for name in names:
        if name not in found:
            near = get_close_matches(name, found, n=1, cutoff=0.0)[0]
            raise InputError(
                f"{store.backend.path()} has no feature set {name!r}; the nearest is {near!r}, and "
                "`vaflow ls` lists all"
            )
    return {name: found[name] for name in names or found}


def _counting(
    n_clips: int, on_clips: Callable[[int, int], None] | None
) -> Callable[[Partition], None] | None:
    """What tells `on_clips` of each partition that is read."""
    if on_clips is None:
        return None
    n_read = 0

    def read(partition: Partition) -> None:
        nonlocal n_read
        n_read += len(partition.clips)
        on_clips(n_read, n_clips)

    return read


def _of_set(
    place: StoreBackend,
    spec: FeatureSpec,
    clips: Sequence[str],
    listed: Collection[str] | None,
    n_pairs: int,
    n_threads: int | None,
    on_done: Callable[[Partition], None] | None,
) -> SetStatistics:
    """The statistics of one set."""
    width, nearest = _width(place, spec.name, clips), Nearest(n_pairs)
    survey = SetSummary(RowStatistics.none(width))
    if clips:
        with TemporaryDirectory(prefix="vaflow-") as scratch:
            file = Path(scratch) / "directions.npy"
            np.lib.format.open_memmap(file, "w+", np.float32, (len(clips), width))
            read = partial(_scan_partitions, place, spec.name, width, file)
            survey += parallel_sum(read, partitions(clips), n_threads, on_done)
            if n_pairs:
                nearest = nearest_pairs(file, n_pairs, n_threads)
    sound = set(clips) - {each.clip for each in survey.damaged}
    return SetStatistics(
        spec=spec.name,
        modality=MODALITY.get(spec.kind, "unknown"),
        width=width,
        survey=survey,
        nearest=tuple(NearPair(clips[p.first], clips[p.second], p.cosine) for p in nearest.pairs),
        n_likely=nearest.n_likely,
        share=None if listed is None else _share(listed, sound),
    )


def _share(listed: Collection[str], sound: Collection[str]) -> Coverage:
    """What a set with these sound records has of the clips that are listed."""
    return Coverage(len(listed), tuple(clip for clip in listed if clip not in sound))


def partitions(clips: Sequence[str]) -> list[Partition]:
    """The clips in order, in `PARTITIONS_AT_MOST` partitions or fewer."""
    size = max(CLIPS_AT_LEAST, ceil(len(clips) / PARTITIONS_AT_MOST))
    starts = range(0, len(clips), size)
    return [Partition(start, tuple(clips[start : start + size])) for start in starts]


def _scan_partitions(
    place: StoreBackend, set_name: str, width: int, directions: Path, partition: Partition
) -> SetSummary:
    """What a partition adds up to; the direction of each of its clips goes into the file."""
    rows = np.load(directions, mmap_mode="r+")[partition.first :]  # (clips from here on, D)

    def put(number: int, direction: Float32[np.ndarray, "D"]) -> None:
        rows[number] = direction

    return scan_records(place, set_name, partition.clips, width, put)


def _width(place: StoreBackend, set_name: str, clips: Sequence[str]) -> int:
    """The width of the first clip's rows that can be told; 0 where none can."""
    for clip in clips:
        name = f"{set_name}/{clip}/values"
        try:
            return array_layout("values", place.metadata(name) or b"").shape[1]
        except StoreError:
            continue
    return 0
