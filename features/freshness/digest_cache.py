"""A cache of media digests, so that an unchanged file is hashed once.

    <store>.work/digests.sqlite

The cache only saves time: if it is damaged, locked, read-only or outdated, the media is hashed.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from features.store.work_folder import digest_cache_file

MIN_AGE_NS = 2 * 10**9  # the coarsest clock of a file system in use (FAT) ticks every two seconds
SAVE_INTERVAL_S = 1.0  # a transaction for each of many small files would cost more than hashing
BUSY_TIMEOUT_S = 5.0  # how long to wait for other writers; then the digest is not saved
DAMAGE_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
CREATE = """
CREATE TABLE IF NOT EXISTS digests (
    path BLOB PRIMARY KEY, looks TEXT, seen_ns INTEGER, sha256 TEXT, proof TEXT
) WITHOUT ROWID
"""  # the names of the columns are those of files that users have
SELECT = "SELECT looks, seen_ns, sha256, proof FROM digests WHERE path = ?"
REPLACE = "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?)"

Entry = tuple[str, int, str]  # fingerprint, taken_at_ns, digest


@dataclass(frozen=True, slots=True)
class FileStat:
    """The result of `stat` for some files, which shows whether they changed."""

    fingerprint: str
    """sha256 over the size, the times of change, the inode and the name of each file."""
    changed_at_ns: int
    """When the last of them changed, by the clock of the file system; 0 without files."""
    taken_at_ns: int
    """When `stat` was called, by the clock of this machine."""

    @property
    def is_old_enough(self) -> bool:
        """Whether another change would change the fingerprint."""
        return self.changed_at_ns + MIN_AGE_NS < self.taken_at_ns


def file_stat(paths: Iterable[Path]) -> FileStat:
    """Return the stat of the files; raise `OSError` if one is missing."""
    taken_at_ns, changed_at_ns, fingerprint = time.time_ns(), 0, hashlib.sha256()
    for path in paths:
        stat = path.stat()
        fields = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        fingerprint.update(os.fsencode(path.name))
        fingerprint.update(f"\0{fields}\n".encode())
        changed_at_ns = max(changed_at_ns, stat.st_mtime_ns, stat.st_ctime_ns)
    return FileStat(fingerprint.hexdigest(), changed_at_ns, taken_at_ns)


class DigestCache:
    """Digests by path, each valid while the files have the same fingerprint.

    Without a database, or with one that cannot be written, the cache lives in memory.
    """

    def __init__(self, database: sqlite3.Connection | None = None) -> None:
        self._database = database
        self._unsaved: dict[bytes, Entry] = {}
        self._saved_at_s = time.monotonic()

    def get(self, path: Path, stat: FileStat) -> str | None:
        """Return the digest that was put for this path and stat; None if there is any doubt."""
        key = os.fsencode(path)
        for entry in filter(None, (self._unsaved.get(key), self._select(key))):
            fingerprint, taken_at_ns, digest = entry
            clock_went_back = taken_at_ns > stat.taken_at_ns
            if fingerprint == stat.fingerprint and not clock_went_back:
                return digest
        return None

    def put(self, path: Path, stat: FileStat, digest: str) -> None:
        """Keep the digest of files whose stat was taken before they were read."""
        if not stat.is_old_enough:
            return
        self._unsaved[os.fsencode(path)] = (stat.fingerprint, stat.taken_at_ns, digest)
        if time.monotonic() - self._saved_at_s >= SAVE_INTERVAL_S:
            self.save()

    def lookup(self, path: Path, stat: FileStat, read: Callable[[], str]) -> str:
        """Return the digest of files whose stat was taken; calls `read` if it is not known."""
        digest = self.get(path, stat)
        if digest is None:
            digest = read()
            self.put(path, stat, digest)
        return digest

    def merge(self, other: "DigestCache") -> None:
        """Keep the digests that `other` could not save."""
        self._unsaved.update(other._unsaved)
        self.save()

    def save(self) -> None:
        """Write new digests to the database; if that fails, they stay in memory."""
        self._saved_at_s = time.monotonic()
        if self._database is None or not self._unsaved:
            return
        with suppress(sqlite3.Error):  # read-only, full or locked
            with self._database:
                self._database.execute("BEGIN IMMEDIATE")
                rows = ((path, *row, _checksum(path, *row)) for path, row in self._unsaved.items())
                self._database.executemany(REPLACE, rows)
            self._unsaved.clear()

    def close(self) -> None:
        """Save and close the database; digests that could not be saved stay in memory."""
        self.save()
        if self._database:
            self._database.close()

    def _select(self, path: bytes) -> Entry | None:
        """Return the entry of a path in the database; None if it is missing or damaged."""
        if self._database is None:
            return None
        try:
            row = self._database.execute(SELECT, (path,)).fetchone()
        except sqlite3.Error:
            return None
        return row[:3] if row and row[3] == _checksum(path, *row[:3]) else None


def _checksum(path: bytes, fingerprint: object, taken_at_ns: object, digest: object) -> str:
    """Return the sha256 of an entry: sqlite does not notice a flipped bit in a text."""
    return hashlib.sha256(repr((path, fingerprint, taken_at_ns, digest)).encode()).hexdigest()


@contextmanager
def open_cache(work: Path, *, read_only: bool = False) -> Iterator[DigestCache]:
    """Open the cache in a store's work folder, and save it at the end.

    A damaged database is replaced, unless `read_only`. Without a work folder, or without the
    permission to write to it, new digests are kept in memory. Never raises because of the cache.
    """
    cache = DigestCache(_open(digest_cache_file(work), read_only=read_only))
    try:
        yield cache
    finally:
        cache.close()


def _open(path: Path, *, read_only: bool) -> sqlite3.Connection | None:
    """Open or create the database, or open it as it is if it cannot be written."""
    if not read_only and path.parent.is_dir() and os.access(path.parent, os.W_OK):
        with suppress(OSError, sqlite3.Error):
            try:
                return _connect(path, "rwc")
            except sqlite3.Error as error:
                if error.sqlite_errorcode not in DAMAGE_CODES:
                    raise
            for name in (path.name, f"{path.name}-journal"):
                path.with_name(name).unlink(missing_ok=True)
            return _connect(path, "rwc")
    with suppress(sqlite3.Error):
        return _connect(path, "ro")
    return None


def _connect(path: Path, mode: Literal["ro", "rwc"]) -> sqlite3.Connection:
    """Open the database; if it may be written, raise `sqlite3.Error` if it is damaged."""
    database = sqlite3.connect(
        f"file:{quote(os.fsencode(path.resolve()))}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,  # one thread uses it after the other
    )
    try:
        if mode == "rwc":
            database.execute("PRAGMA synchronous = OFF")  # a lost entry only costs time
            database.execute(CREATE)
            database.execute(f"{SELECT} LIMIT 1", (b"",))
    except BaseException:
        database.close()
        raise
    return database
