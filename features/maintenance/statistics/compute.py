"""Statistics of the feature sets of a store: one pass over every row, in parallel by dask.

The records of a set are divided into partitions by their number alone, so the sums are the same on
any machine. A partition reads its records one after the other, a chunk at a time, so memory depends
neither on their number nor on their length. There are at most `PARTITIONS_AT_MOST`: a graph with a
node per record would outgrow the memory and the time of the pass. Only the mean vector of each
clip, which is compared to find duplicates, grows with the store; it is in a temporary file.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import partial
from math import ceil
from operator import setitem
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from features.canonical_json import JsonObject
from features.errors import InputError, StoreError
from features.maintenance.statistics.duplicates import LIKELY_SAME_COSINE, Nearest, nearest_pairs
from features.maintenance.statistics.moments import RowStatistics
from features.maintenance.statistics.scan import SetSummary, scan_records
from features.manifest.manifest import read_manifest
from features.spec import FeatureSpec
from features.store.backend import StoreBackend
from features.store.feature_store import FeatureStore
from features.store.layout import array_layout
from features.system.parallel import parallel_sum

CLIPS_AT_LEAST = 16  # of a partition: dask needs a millisecond for each partition
PARTITIONS_AT_MOST = 1024
PAIRS = 10  # listed by default


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two clips with similar mean embeddings."""

    first: str
    second: str
    cosine: float

    @property
    def is_likely(self) -> bool:
        """Whether the two are probably copies."""
        return self.cosine >= LIKELY_SAME_COSINE


@dataclass(frozen=True, slots=True)
class Coverage:
    """The part of a manifest that a feature set has."""

    n_clips: int
    """Number of clips in the manifest."""
    missing: tuple[str, ...]
    """Clips of the manifest without a sound record."""

    @property
    def share(self) -> float:
        """Share of the clips with a sound record, from 0 to 1."""
        return 1 - len(self.missing) / self.n_clips

    def as_json(self) -> JsonObject:
        """Return the coverage as `stats --json` prints it."""
        return {"clips": self.n_clips, "share": self.share, "missing": list(self.missing)}


@dataclass(frozen=True, slots=True)
class SetStatistics:
    """The statistics of one feature set."""

    spec: str
    """Name of the feature set."""
    modality: str
    width: int
    """Numbers per row; 0 if no record has readable metadata."""
    summary: SetSummary
    nearest: tuple[NearPair, ...]
    """The pairs of clips with the highest cosines, highest first."""
    n_likely: int
    """Number of pairs that are probably copies, whether in `nearest` or not."""
    manifest_coverage: Coverage | None
    """None without a manifest."""

    @property
    def valid_share(self) -> float | None:
        """Share of the rows that are valid; None without rows."""
        n_rows = self.summary.n_rows
        return self.summary.moments.n / n_rows if n_rows else None

    def as_json(self) -> JsonObject:
        """Return the statistics as `stats --json` prints them; without valid rows, no dimension."""
        summary, moments = self.summary, self.summary.moments
        arrays = {"mean": moments.mean, "std": moments.std, "low": moments.low}
        arrays["high"] = moments.high
        return {
            "spec": self.spec,
            "modality": self.modality,
            "clips": summary.n_clips,
            "rows": summary.n_rows,
            "valid_rows": moments.n,
            "coverage": self.valid_share,
            "width": self.width,
            "seconds": summary.duration_s,
            "covered_s": summary.valid_s,
            "bytes": summary.n_bytes,
            "not_finite": summary.n_not_finite,
            "dead": list(moments.dead),
            "dimensions": {k: a.tolist() if moments.n else [] for k, a in arrays.items()},
            "blank": [asdict(each) for each in summary.empty],
            "damaged": [asdict(each) for each in summary.damaged],
            "manifest": self.manifest_coverage.as_json() if self.manifest_coverage else None,
            "nearest": [{**asdict(p), "likely": p.is_likely} for p in self.nearest],
            "likely_duplicates": self.n_likely,
        }


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
        modality=spec.modality or "unknown",
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
