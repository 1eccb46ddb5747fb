"""What lies in or beside a store that nobody needs: shown first, removed when asked.

Whatever is locked or live stays. A record in the making is held by its clip's lock, from before it
is decoded until it is published; a lock that can be taken has no holder.
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

BANK_LIVES_S = 30 * 86400.0  # after it was last opened; what is asked for later is packed anew
PART_LIVES_S = 3600.0  # a file is written in seconds; one that has no lock is left alone as long

Kind = Literal[
    "staging", "lock", "part", "removed", "half record", "set", "record", "quarantine", "bank"
]


@dataclass(frozen=True, slots=True)
class GarbageItem:
    """One thing that can go."""

    path: Path
    kind: Kind
    n_bytes: int
    lock: Path | None = None
    """The lock under which it is removed."""


def find_garbage(
    store: FeatureStore, *, sets: Sequence[str] = (), clips: Collection[str] | None = None
) -> list[GarbageItem]:
    """What can go: leftovers of processes that died, and what is named.

    `sets` are feature sets that are superseded: they go whole. With `clips`, the ids of a manifest,
    records and quarantine of others go, too. `InputError` where there is no such set.
    """
    return [
        *_staged(store.work),
        *_locks(store.work),
        *_parts(store.work),
        *_removed(store.work),
        *_sets(store, sets),
        *_records(store, sets, clips),
        *_quarantined(store, sets, clips),
        *_banks(store.work),
    ]


def _staged(work: Path) -> Iterator[GarbageItem]:
    """Records that never came to be, and such as were replaced."""
    for path in _listed(staging_folder(work)):
        name = path.name.removesuffix(".old").rpartition(".")[0]  # <set>.<clip>.<hex>
        lock = locks_folder(work) / name if name else None
        if _is_unlocked(lock) if lock else _is_old(path):
            yield GarbageItem(path, "staging", _size(path), lock)


def _locks(work: Path) -> Iterator[GarbageItem]:
    """Locks that nobody holds."""
    for path in _listed(locks_folder(work)):
        if path.is_file() and _is_unlocked(path):
            yield GarbageItem(path, "lock", 0, path)


def _parts(work: Path) -> Iterator[GarbageItem]:
    """Files that were never finished."""
    if work.is_dir():
        for path in sorted(work.rglob(".*.part")):
            if _is_old(path):
                yield GarbageItem(path, "part", _size(path))


def _removed(work: Path) -> Iterator[GarbageItem]:
    """What a repair put out of the way."""
    for path in _listed(removed_folder(work)):
        yield GarbageItem(path, "removed", _size(path))


def _sets(store: FeatureStore, sets: Sequence[str]) -> Iterator[GarbageItem]:
    """Feature sets that are named, unless somebody writes to one."""
    known = [path.name for path in _listed(store.path) if SET_NAME.fullmatch(path.name)]
    for name in sets:
        if name not in known:
            raise InputError(
                f"{store.path} has no feature set {name!r}; it has {', '.join(known) or 'none'}"
            )
        held = (p for p in _listed(locks_folder(store.work)) if p.name.startswith(f"{name}."))
        if all(_is_unlocked(lock) for lock in held):
            yield GarbageItem(store.path / name, "set", _size(store.path / name))


def _records(
    store: FeatureStore, sets: Sequence[str], clips: Collection[str] | None
) -> Iterator[GarbageItem]:
    """Folders without a commit, and records of clips that are none of these."""
    for folder in _listed(store.path):
        if not SET_NAME.fullmatch(folder.name) or folder.name in sets or folder.is_symlink():
            continue
        for path in _listed(folder):
            if not CLIP_NAME.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
                continue
            half = not os.path.lexists(path / METADATA)
            if not half and (clips is None or path.name in clips):
                continue
            lock = record_lock(store.work, folder.name, path.name)
            if _is_unlocked(lock):
                yield GarbageItem(path, "half record" if half else "record", _size(path), lock)


def _quarantined(
    store: FeatureStore, sets: Sequence[str], clips: Collection[str] | None
) -> Iterator[GarbageItem]:
    """What is remembered of clips that are none of these, and of sets that go."""
    for folder in _listed(quarantine_folder(store.work)):
        for path in _listed(folder):
            if folder.name in sets or (clips is not None and path.stem not in clips):
                yield GarbageItem(path, "quarantine", _size(path))


def _banks(work: Path) -> Iterator[GarbageItem]:
    """Memory maps for trainings that nobody has opened for long."""
    for path in _listed(banks_folder(work)):
        opened_at = max(inner.lstat().st_mtime for inner in (path, *_listed(path)))
        lock = bank_lock(work, path.name)
        if time.time() - opened_at > BANK_LIVES_S and _is_unlocked(lock):
            yield GarbageItem(path, "bank", _size(path), lock)


def remove_garbage(store: FeatureStore, found: Sequence[GarbageItem]) -> list[GarbageItem]:
    """Remove what was found, but for what has come to be used meanwhile; returns what went."""
    gone = []
    for item in found:
        held = try_lock(item.lock) if item.lock else None
        if item.lock and held is None:
            continue
        try:
            _remove(store, item.path)
        finally:
            if held:
                held.release()
        gone.append(item)
    return gone


def _remove(store: FeatureStore, path: Path) -> None:
    """Remove a file or a folder; out of a store in one step, so that no half of it is seen."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if store.path in path.parents:
        staged = staging_folder(store.work) / f"{path.name}.{uuid.uuid4().hex}.old"
        staged.parent.mkdir(parents=True, exist_ok=True)
        path = path.rename(staged)
    shutil.rmtree(path)


def _listed(folder: Path) -> list[Path]:
    """What lies in a folder, if it is one."""
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _is_unlocked(lock: Path) -> bool:
    """Whether nobody holds a lock now."""
    if not lock.exists():
        return True
    if (held := try_lock(lock)) is None:
        return False
    os.close(held.handle)  # to look takes nothing away
    return True


def _is_old(path: Path) -> bool:
    """Whether nobody can be writing a file still that no lock tells of."""
    return time.time() - path.lstat().st_mtime > PART_LIVES_S


def _size(path: Path) -> int:
    """Bytes of a file, or of the files below a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(
        (Path(here) / name).lstat().st_size for here, _, names in os.walk(path) for name in names
    )
