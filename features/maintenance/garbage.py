"""Garbage collection: files in or beside a store that are no longer needed.

Locked files stay. A writer holds the lock of its clip from before the clip is decoded until
the record is published, so a lock that can be acquired has no writer.
"""

import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.errors import InputError
from features.store.feature_store import CLIP_NAME, SET_NAME, FeatureStore
from features.store.layout import METADATA
from features.store.work_folder import (
    bank_lock,
    banks_folder,
    locks_folder,
    quarantine_folder,
    record_lock,
    removed_folder,
    staging_folder,
)
from features.system.locks import try_lock

BANK_LIVES_S = 30 * 86400.0  # after it was last opened; a later training packs it again
PART_LIVES_S = 3600.0  # a file without a lock is kept this long; it is written in seconds

Kind = Literal[
    "staging", "lock", "part", "removed", "half record", "set", "record", "quarantine", "bank"
]
Candidate = tuple[Kind, Path, Path | None]  # with the lock that must be free, if there is one


@dataclass(frozen=True, slots=True)
class GarbageItem:
    """A file or folder that can be removed."""

    path: Path
    kind: Kind
    n_bytes: int
    lock: Path | None = None
    """The lock that is held while it is removed."""


def find_garbage(
    store: FeatureStore, *, sets: Sequence[str] = (), clips: Collection[str] | None = None
) -> list[GarbageItem]:
    """Return the files of dead processes, and those that the arguments name.

    `sets` names feature sets to remove as a whole. With `clips`, the ids of a manifest, the records
    and quarantine entries of other clips can be removed, too. Raises `InputError` if the store
    lacks a feature set of `sets`.
    """
    candidates = (
        *_left_behind(store.work),
        *_named_sets(store, sets),
        *_records(store, sets, clips),
        *_quarantine_entries(store, sets, clips),
        *_old_banks(store.work),
    )
    return [
        GarbageItem(path, kind, 0 if kind == "lock" else _size(path), lock)
        for kind, path, lock in candidates
        if lock is None or _is_unlocked(lock)
    ]


def _left_behind(work: Path) -> Iterator[Candidate]:
    for path in _children(staging_folder(work)):  # records not published, and those replaced
        name = path.name.removesuffix(".old").rpartition(".")[0]  # <set>.<clip>.<hex>
        if name or _is_old(path):
            yield "staging", path, locks_folder(work) / name if name else None
    for path in _children(locks_folder(work)):
        if path.is_file():
            yield "lock", path, path
    for path in sorted(work.rglob(".*.part")):  # of atomic writes
        if _is_old(path):
            yield "part", path, None
    for path in _children(removed_folder(work)):  # what `verify --repair` moved out of the store
        yield "removed", path, None


def _named_sets(store: FeatureStore, sets: Sequence[str]) -> Iterator[Candidate]:
    """Yield the named feature sets to which no process writes."""
    known = [path.name for path in _children(store.path) if SET_NAME.fullmatch(path.name)]
    for name in sets:
        if name not in known:
            raise InputError(
                f"{store.path} has no feature set {name!r}; it has {', '.join(known) or 'none'}"
            )
        locks = (p for p in _children(locks_folder(store.work)) if p.name.startswith(f"{name}."))
        if all(_is_unlocked(lock) for lock in locks):
            yield "set", store.path / name, None


def _records(
    store: FeatureStore, sets: Sequence[str], clips: Collection[str] | None
) -> Iterator[Candidate]:
    """Yield folders without a commit and, with `clips`, the records of other clips."""
    for folder in _children(store.path):
        if not SET_NAME.fullmatch(folder.name) or folder.name in sets:
            continue
        for path in _children(folder):
            if not CLIP_NAME.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
                continue
            is_half = not os.path.lexists(path / METADATA)
            if is_half or (clips is not None and path.name not in clips):
                lock = record_lock(store.work, folder.name, path.name)
                yield "half record" if is_half else "record", path, lock


def _quarantine_entries(
    store: FeatureStore, sets: Sequence[str], clips: Collection[str] | None
) -> Iterator[Candidate]:
    """Yield the entries of the sets to remove and, with `clips`, those of other clips."""
    for folder in _children(quarantine_folder(store.work)):
        for path in _children(folder):
            if folder.name in sets or (clips is not None and path.stem not in clips):
                yield "quarantine", path, None


def _old_banks(work: Path) -> Iterator[Candidate]:
    """Yield packed banks that no training has opened for `BANK_LIVES_S`."""
    for path in _children(banks_folder(work)):
        opened_at = max(inner.lstat().st_mtime for inner in (path, *_children(path)))
        if time.time() - opened_at > BANK_LIVES_S:
            yield "bank", path, bank_lock(work, path.name)


def remove_garbage(store: FeatureStore, items: Sequence[GarbageItem]) -> list[GarbageItem]:
    """Remove the items that no process has locked since they were found; return those removed."""
    removed = []
    for item in items:
        lock = try_lock(item.lock) if item.lock else None
        if item.lock and lock is None:
            continue
        try:
            _remove(store, item.path)
        finally:
            if lock:
                lock.release()
        removed.append(item)
    return removed


def _remove(store: FeatureStore, path: Path) -> None:
    """Remove a file or folder; a folder is first renamed, so that no reader sees a part of it."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if store.path in path.parents:
        staged = staging_folder(store.work) / f"{path.name}.{uuid.uuid4().hex}.old"
        staged.parent.mkdir(parents=True, exist_ok=True)
        path = path.rename(staged)
    shutil.rmtree(path)


def _children(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted; none for a link, a file or a missing folder."""
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _is_unlocked(lock: Path) -> bool:
    if not lock.exists():
        return True
    if (acquired := try_lock(lock)) is None:
        return False
    os.close(acquired.handle)  # `release` would remove the file
    return True


def _is_old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > PART_LIVES_S


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    files = (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(file.lstat().st_size for file in files)
