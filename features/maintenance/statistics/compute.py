"""Statistics of the feature sets of a store: one pass over every row, in parallel by dask.

The records of a set are divided into partitions by their number alone, so the sums are the same on
any machine. A partition reads its records one after the other, a chunk at a time, so memory depends
neither on their number nor on their length. There are at most `PARTITIONS_AT_MOST`: a graph with a
node per record would outgrow the memory and the time of the pass. Only the mean vector of each
clip, which is compared to find duplicates, grows with the store; it is in a temporary file.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from math import ceil
from operator import setitem
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

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

CLIPS_AT_LEAST = 16  # of a partition: dask needs a millisecond for each partition
PARTITIONS_AT_MOST = 1024
PAIRS = 10  # listed by default


@dataclass(frozen=True, slots=True)
class Partition:
    """Clips of a feature set that one thread reads in order."""

    first: int
    """Index of the first of them in all clips of the set."""
    clips: tuple[str, ...]


def statistics(
    path: str,
    sets: Collection[str] = (),
    manifest: Path | None = None,
    *,
    n_pairs: int = PAIRS,
    n_threads: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[SetStatistics, ...]:
    """Return the statistics of the store's feature sets, or of those in `sets`.

    The `n_pairs` most similar pairs of clips are listed; with 0 no clips are compared.
    `on_progress` is called with the number of clips that were read and of all clips. Raises
    `InputError` if there is no store, if it has no feature set, or if it lacks one of `sets`.
    """
    if n_pairs < 0:
        raise InputError(f"pairs = {n_pairs}: it must be 0 or more")
    store = FeatureStore.open(path)
    specs = _select_sets(store, sets)
    listed = None if manifest is None else [clip.id for clip in read_manifest(manifest).clips]
    clips = {name: store.clip_ids(name) for name in specs}
    n_clips, n_read = sum(map(len, clips.values())), 0

    def on_done(partition: Partition) -> None:
        nonlocal n_read
        n_read += len(partition.clips)
        if on_progress:
            on_progress(n_read, n_clips)

    return tuple(
        _set_statistics(store.backend, spec, clips[name], listed, n_pairs, n_threads, on_done)
        for name, spec in specs.items()
    )


def _select_sets(store: FeatureStore, names: Collection[str]) -> dict[str, FeatureSpec]:
    specs = store.feature_sets()
    if not specs:
        raise InputError(
            f"{store.backend.path()} has no feature set yet; "
            "`vaflow run extract-features` creates them"
        )
    for name in names:
        if name not in specs:
            near = get_close_matches(name, specs, n=1, cutoff=0.0)[0]
            raise InputError(
                f"{store.backend.path()} has no feature set {name!r}; the nearest is {near!r}, and "
                "`vaflow ls` lists all"
            )
    return {name: specs[name] for name in names or specs}


def _set_statistics(
    backend: StoreBackend,
    spec: FeatureSpec,
    clips: Sequence[str],
    listed: Collection[str] | None,
    n_pairs: int,
    n_threads: int | None,
    on_done: Callable[[Partition], None],
) -> SetStatistics:
    """Return the statistics of one feature set; `listed` are the clips of the manifest."""
    width, nearest = _row_width(backend, spec.name, clips), Nearest(n_pairs)
    summary = SetSummary(RowStatistics.none(width))
    if clips:
        with TemporaryDirectory(prefix="vaflow-") as folder:
            file = Path(folder) / "mean_vectors.npy"
            np.lib.format.open_memmap(file, "w+", np.float32, (len(clips), width))

            def scan(partition: Partition) -> SetSummary:
                rows = np.load(file, mmap_mode="r+")[partition.first :]  # (clips from here on, D)
                put = partial(setitem, rows)
                return scan_records(backend, spec.name, partition.clips, width, put)

            summary += parallel_sum(scan, partitions(clips), n_threads, on_done)
            if n_pairs:
                nearest = nearest_pairs(file, n_pairs, n_threads)
    sound = set(clips) - {record.clip for record in summary.damaged}
    coverage = None
    if listed is not None:
        coverage = Coverage(len(listed), tuple(clip for clip in listed if clip not in sound))
    return SetStatistics(
        spec=spec.name,
        modality=MODALITY.get(spec.kind, "unknown"),
        width=width,
        summary=summary,
        nearest=tuple(NearPair(clips[p.first], clips[p.second], p.cosine) for p in nearest.pairs),
        n_likely=nearest.n_likely,
        manifest_coverage=coverage,
    )


def partitions(clips: Sequence[str]) -> list[Partition]:
    """Divide the clips, in order, into at most `PARTITIONS_AT_MOST` partitions."""
    size = max(CLIPS_AT_LEAST, ceil(len(clips) / PARTITIONS_AT_MOST))
    starts = range(0, len(clips), size)
    return [Partition(start, tuple(clips[start : start + size])) for start in starts]


def _row_width(backend: StoreBackend, set_name: str, clips: Sequence[str]) -> int:
    """Return the width of the first clip with readable metadata; 0 if there is none."""
    for clip in clips:
        name = f"{set_name}/{clip}/values"
        try:
            return array_layout("values", backend.metadata(name) or b"").shape[1]
        except StoreError:
            continue
    return 0
