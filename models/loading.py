"""From manifest and store to a bank."""

import errno
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial

from pydantic import JsonValue

from features.durable import locked
from features.errors import InputError, StoreError
from features.labels import Labels, is_constant, labels_digest, read_labels
from features.manifest import Manifest
from features.records import Clip
from features.spec import canonical
from features.store import BANKS, LOCKS, STAGING
from features.timeline import MAX_ROWS_APART
from models.bank import Bank
from models.bank_file import VERSION, bank_in_memory, open_bank, pack
from models.clip_rows import ClipRows, clip_rows
from models.feature_sets import FeatureSets, records_digest, some

KEY_DIGITS = 16  # hexadecimal, of the key, that name a bank's folder
NOT_TO_BE_KEPT = {  # no right to, or no room
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
}

log = logging.getLogger(__name__)


def clips_of_split(manifest: Manifest, split: str) -> tuple[Clip, ...]:
    """The clips of a split; `InputError` where it has none."""
    clips = tuple(clip for clip in manifest.clips if clip.split == split)
    if not clips:
        known = sorted({clip.split for clip in manifest.clips if clip.split})
        if not known:
            raise InputError(
                f"the manifest has no clip of the split {split!r}: none of its clips has a "
                "`split`; give them one in the manifest"
            )
        near = get_close_matches(split, known, n=1, cutoff=0.0)[0]
        raise InputError(
            f"the manifest has no clip of the split {split!r}, only of {', '.join(known)}; the "
            f"nearest is {near!r}; or give clips this split in the manifest"
        )
    return clips


def subjects(clips: Sequence[Clip]) -> dict[str, str]:
    """Whom each clip shows; a clip that does not say shows someone of its own."""
    return {
        clip.id: f"clip {clip.id}" if clip.subject is None else f"subject {clip.subject}"
        for clip in clips
    }


def read_all_labels(
    manifest: Manifest, clips: Sequence[Clip], *, required: bool
) -> dict[str, Labels | None]:
    """The labels of each clip, None where it has none; `InputError` where they are required."""
    if required and (without := [clip.id for clip in clips if clip.labels is None]):
        raise InputError(
            f"{len(without)} clips to train on have no labels in the manifest ({some(without)}); "
            "give them labels, or take them out of the split"
        )
    return {
        clip.id: read_labels(manifest.path(clip.labels)) if clip.labels else None for clip in clips
    }


def constant_labels(labels: dict[str, Labels | None]) -> tuple[str, ...]:
    """A note on each clip whose annotated rows are all the same point."""
    return tuple(
        f"{clip_id}: every annotated row has the same label; is it a placeholder?"
        for clip_id, item in labels.items()
        if item and is_constant(item)
    )


def digest_of_labels(labels: Mapping[str, Labels | None]) -> str:
    """sha256 of the labels of all clips."""
    digests = {clip_id: item and labels_digest(item) for clip_id, item in labels.items()}
    return hashlib.sha256(canonical(dict(digests))).hexdigest()


def load_bank(
    sets: FeatureSets,
    labels: Mapping[str, Labels | None],
    max_rows_apart: int = MAX_ROWS_APART,
) -> Bank:
    """The rows of the clips that `labels` names, in its order; without labels, a row per frame.

    They are packed once and kept beside the store, as a memory map that later calls and other
    processes open without reading the store; another record, label or order is another bank. Where
    it cannot be kept it is packed in memory, which is logged. `InputError` where label rows and
    frames are further apart than allowed, `StoreError` where a record is missing or cannot be read.
    """
    key = _bank_key(sets, labels, max_rows_apart)
    rows = partial(_rows, sets, labels, max_rows_apart, key)
    work = sets.store.work
    folder = work / BANKS / key[:KEY_DIGITS]
    if found := open_bank(folder, key):
        return found
    try:
        with locked(work / LOCKS / f"bank.{folder.name}"):
            if found := open_bank(folder, key):  # another process has packed it meanwhile
                return found
            began = time.monotonic()
            pack(folder, work / STAGING, key, rows())
            took_s = time.monotonic() - began
            log.info("packed %d clips into %s in %.1f s", len(labels), folder, took_s)
    except OSError as error:
        if error.errno not in NOT_TO_BE_KEPT:
            raise
        log.warning("%s: the bank is packed in memory, and anew each time", error)
        return bank_in_memory(rows())
    found = open_bank(folder, key)
    assert found is not None  # just packed
    return found


def _bank_key(sets: FeatureSets, labels: Mapping[str, Labels | None], max_rows_apart: int) -> str:
    """sha256 of all that decides a bank's rows."""
    decisive: dict[str, JsonValue] = {
        "version": VERSION,
        "visual": records_digest(sets, list(labels), "visual"),
        "audio": records_digest(sets, list(labels), "audio"),
        "clips": list(labels),
        "labels": digest_of_labels(labels),
        "max_rows_apart": max_rows_apart,
    }
    return hashlib.sha256(canonical(decisive)).hexdigest()


def _rows(
    sets: FeatureSets, labels: Mapping[str, Labels | None], max_rows_apart: int, key: str
) -> Iterator[ClipRows]:
    """The rows of the clips; `StoreError` after the last where they are not those of the key."""
    yield from clip_rows(sets, labels, max_rows_apart)
    if _bank_key(sets, labels, max_rows_apart) != key:
        raise StoreError(
            f"features in {sets.store.place.path()} were replaced while they were read; wait for "
            "extract-features to end, and run this again"
        )
