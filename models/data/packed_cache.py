"""From manifest and store to a bank."""

import errno
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial

from pydantic import JsonValue

from features.canonical_json import canonical
from features.errors import StoreError
from features.manifest.labels import Labels
from features.store.work_folder import BANKS, LOCKS, STAGING
from features.system.locks import file_lock
from features.timeline import MAX_LENGTH_MISMATCH
from models.data.aligned_clip import AlignedClip, align_clip
from models.data.feature_sets import FeatureSets, records_digest
from models.data.packed import PackedFeatures
from models.data.packed_file import VERSION, open_packed, pack, pack_in_memory
from models.data.splits import digest_of_labels

KEY_DIGITS = 16  # hexadecimal, of the key, that name a bank's folder
UNWRITABLE = {  # no right to, or no room
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
}

log = logging.getLogger(__name__)


def load_packed(
    sets: FeatureSets,
    labels: Mapping[str, Labels | None],
    max_length_mismatch: int = MAX_LENGTH_MISMATCH,
) -> PackedFeatures:
    """The rows of the clips that `labels` names, in its order; without labels, a row per frame.

    They are packed once and kept beside the store, as a memory map that later calls and other
    processes open without reading the store; another record, label or order is another bank. Where
    it cannot be kept it is packed in memory, which is logged. `InputError` where label rows and
    frames are further apart than allowed, `StoreError` where a record is missing or cannot be read.
    """
    key = _cache_key(sets, labels, max_length_mismatch)
    rows = partial(_rows, sets, labels, max_length_mismatch, key)
    work = sets.store.work
    folder = work / BANKS / key[:KEY_DIGITS]
    if found := open_packed(folder, key):
        return found
    try:
        with file_lock(work / LOCKS / f"bank.{folder.name}"):
            if found := open_packed(folder, key):  # another process has packed it meanwhile
                return found
            began = time.monotonic()
            pack(folder, work / STAGING, key, rows())
            took_s = time.monotonic() - began
            log.info("packed %d clips into %s in %.1f s", len(labels), folder, took_s)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        log.warning("%s: the bank is packed in memory, and anew each time", error)
        return pack_in_memory(rows())
    found = open_packed(folder, key)
    assert found is not None  # just packed
    return found


def _cache_key(
    sets: FeatureSets, labels: Mapping[str, Labels | None], max_length_mismatch: int
) -> str:
    """sha256 of all that decides a bank's rows."""
    decisive: dict[str, JsonValue] = {
        "version": VERSION,
        "visual": records_digest(sets, list(labels), "visual"),
        "audio": records_digest(sets, list(labels), "audio"),
        "clips": list(labels),
        "labels": digest_of_labels(labels),
        "max_length_mismatch": max_length_mismatch,
    }
    return hashlib.sha256(canonical(decisive)).hexdigest()


def _rows(
    sets: FeatureSets, labels: Mapping[str, Labels | None], max_length_mismatch: int, key: str
) -> Iterator[AlignedClip]:
    """The rows of the clips; `StoreError` after the last where they are not those of the key."""
    yield from align_clip(sets, labels, max_length_mismatch)
    if _cache_key(sets, labels, max_length_mismatch) != key:
        raise StoreError(
            f"features in {sets.store.place.path()} were replaced while they were read; wait for "
            "extract-features to end, and run this again"
        )
