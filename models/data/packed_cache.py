"""The cache of packed features beside a store."""

import errno
import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from features.canonical_json import canonical_sha256
from features.errors import StoreError
from features.manifest.label_clock import predictions_at_labels
from features.manifest.labels import Labels, labels_digest
from features.store.work_folder import bank_lock, banks_folder, staging_folder
from features.system.locks import file_lock
from features.timeline import MAX_LENGTH_MISMATCH
from models.data.alignment import (
    AlignedClip,
    align_clips,
    check_clip_length,
    n_label_rows,
    start_of,
)
from models.data.feature_sets import FeatureSets, record_files
from models.data.packed import PackedFeatures, Times, Va
from models.data.packed_file import VERSION, WITHOUT_STREAMS, open_packed, pack, pack_in_memory

KEY_DIGITS = 16  # hexadecimal digits of the key that name a folder
NO_PERMISSION = {errno.EROFS, errno.EACCES, errno.EPERM}
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

log = logging.getLogger(__name__)


def load_packed(
    sets: FeatureSets,
    labels: Mapping[str, Labels | None],
    max_length_mismatch: int = MAX_LENGTH_MISMATCH,
) -> PackedFeatures:
    """Return the rows of the clips in `labels`, in its order; without labels, a row per frame.

    Clips are packed once and kept beside the store as memory maps, which later calls and other
    processes open without reading the store. A packed file that also holds other clips is used as
    well, so a training, its folds and its scoring share one. If nothing can be written beside the
    store, the clips are packed in memory and a warning is logged.

    Raises `InputError` if label rows and frames of a clip differ by more than
    `max_length_mismatch`, and `StoreError` if a record is missing or cannot be read.
    """
    sources = _source_digests(sets, labels)
    work = sets.store.work
    streams = sets.modalities
    key = canonical_sha256({"version": VERSION, "clips": sources})
    folder = banks_folder(work) / key[:KEY_DIGITS]
    others = sorted(folder.parent.iterdir()) if folder.parent.is_dir() else []
    opened = (open_packed(path, sources, streams) for path in (folder, *others))
    packed = next(filter(None, opened), None)
    try:
        if packed is None:
            with file_lock(bank_lock(work, folder.name)):
                packed = open_packed(
                    folder, sources, streams
                )  # another process may have packed them
                if packed is None:
                    began = time.monotonic()
                    clips = _clips(sets, labels, max_length_mismatch, sources)
                    pack(folder, staging_folder(work), sources, clips, streams)
                    took_s = time.monotonic() - began
                    log.info("packed %d clips into %s in %.1f s", len(labels), folder, took_s)
                    packed = open_packed(folder, sources, streams)
    except OSError as error:
        if error.errno not in NO_PERMISSION | NO_SPACE:
            raise
        log.warning("%s: the features are packed in memory, each time again", error)
        clips = _clips(sets, labels, max_length_mismatch, sources)
        return _with_labels(pack_in_memory(clips, streams), sets, labels)
    assert packed is not None  # just packed
    features, n_frames = packed
    for clip_id, item in labels.items():
        n_rows = n_label_rows(item, n_frames[clip_id])
        check_clip_length(clip_id, n_rows, n_frames[clip_id], max_length_mismatch)
    return _with_labels(features.select(tuple(labels)), sets, labels)


def _with_labels(
    packed: PackedFeatures, sets: FeatureSets, labels: Mapping[str, Labels | None]
) -> PackedFeatures:
    """Return the features with the labels that have times of their own."""
    own = {
        clip_id: partial(_at_labels, item, start_of(sets, clip_id, packed.time_s[span]))
        for clip_id, span in packed.spans()
        if (item := labels[clip_id]) and not item.is_per_frame
    }
    return replace(packed, at_labels=own) if own else packed


def _at_labels(labels: Labels, start_s: float, time_s: Times, va: Va) -> tuple[Va, Va]:
    """The valid labels, and V and A of the rows at their times."""
    values, valid = predictions_at_labels(labels, time_s, va, start_s)
    return labels.va[valid], values[valid]


def _source_digests(sets: FeatureSets, labels: Mapping[str, Labels | None]) -> dict[str, str]:
    """Return the sha256 of everything that determines the rows, by clip."""
    specs, names, clock = list(sets.specs.values()), list(sets.specs), sets.clock
    if clock and clock not in specs:
        specs.append(clock)
    records = [record_files(sets, list(labels), spec) for spec in specs]
    named = [] if names == list(WITHOUT_STREAMS) else [names]  # as earlier versions did
    return {
        clip_id: canonical_sha256(
            [*named, *(files[clip_id] for files in records), item and labels_digest(item)]
        )
        for clip_id, item in labels.items()
    }


def _clips(
    sets: FeatureSets,
    labels: Mapping[str, Labels | None],
    max_length_mismatch: int,
    sources: Mapping[str, str],
) -> Iterator[AlignedClip]:
    """Yield the aligned clips; raises `StoreError` at the end if they do not match `sources`."""
    yield from align_clips(sets, labels, max_length_mismatch)
    if _source_digests(sets, labels) != sources:
        raise StoreError(
            f"features in {sets.location} were replaced while they were read; wait for "
            "extract-features to end, and run this again"
        )
