"""Digests of media that were hashed before: a file that looks the same is not read again.

<store>.work/digests.sqlite

It saves time and decides nothing: where it is damaged, locked, read-only or in doubt, the media is
read.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from features.store.work_folder import digest_cache_file

SETTLE_NS = 2 * 10**9  # the coarsest clock of a file system in use (FAT) ticks every two seconds
SAVED_EVERY_S = 1.0  # a commit for each of many small files would cost more than to read them
WAIT_S = 5.0  # for others that write; then the digest is not remembered
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
TABLE = """
CREATE TABLE IF NOT EXISTS digests (
    path BLOB PRIMARY KEY, looks TEXT, seen_ns INTEGER, sha256 TEXT, proof TEXT
) WITHOUT ROWID
"""
FIND = "SELECT looks, seen_ns, sha256, proof FROM digests WHERE path = ?"


@dataclass(frozen=True, slots=True)
class FileStat:
    """How files looked from outside at a moment."""

    looks: str
    """sha256 over size, times of change, inode and name of each."""
    newest_ns: int
    """When the last of them changed, by the clock of the file system; 0 where there is none."""
    seen_ns: int
    """When they were looked at, by ours."""

    @property
    def is_settled(self) -> bool:
        """Whether they changed so long ago that one more change would show."""
        return self.newest_ns + SETTLE_NS < self.seen_ns


def file_stat(paths: Iterable[Path]) -> FileStat:
    """How the files look now; `OSError` where one is not there."""
    seen_ns, newest_ns, whole = time.time_ns(), 0, hashlib.sha256()
    for path in paths:
        found = path.stat()
        whole.update(os.fsencode(path.name))
        looks = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        whole.update(f"\0{looks}\n".encode())
        newest_ns = max(newest_ns, found.st_mtime_ns, found.st_ctime_ns)
    return FileStat(whole.hexdigest(), newest_ns, seen_ns)


class DigestCache:
    """Digests by path, each true as long as the files look as they did."""

    def __init__(self, database: sqlite3.Connection | None = None) -> None:
        self._database = database
        self._of_path: dict[bytes, tuple[str, int, str]] = {}  # that the database has not
        self._unsaved: dict[bytes, tuple[str, int, str]] = {}
        self._saved_at_s = time.monotonic()

    def find(self, path: Path, look: FileStat) -> str | None:
        """The digest of what lies at `path` and looks like this; None where there is a doubt."""
        key = os.fsencode(path)
        for entry in (self._of_path.get(key), self._in_database(key)):
            if entry is not None:
                looks, seen_ns, digest = entry
                has_clock_gone_back = seen_ns > look.seen_ns
                if looks == look.looks and not has_clock_gone_back:
                    return digest
        return None

    def keep(self, path: Path, look: FileStat, digest: str) -> None:
        """Remember the digest of what looked like this before it was read."""
        if not look.is_settled:
            return
        key = os.fsencode(path)
        self._of_path[key] = self._unsaved[key] = (look.looks, look.seen_ns, digest)
        if time.monotonic() - self._saved_at_s >= SAVED_EVERY_S:
            self.save()

    def take_over(self, other: "DigestCache") -> None:
        """Remember what another had no place to put."""
        self._of_path.update(other._of_path)
        if other._database is None:
            self._unsaved.update(other._of_path)
            self.save()

    def save(self) -> None:
        """Have later processes know what is new, if the disk takes it."""
        rows = [(path, *entry, _proof(path, *entry)) for path, entry in self._unsaved.items()]
        self._unsaved.clear()
        self._saved_at_s = time.monotonic()
        if self._database and rows:
            with suppress(sqlite3.Error):  # read-only, full or locked
                with self._database:
                    self._database.execute("BEGIN")
                    query = "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?)"
                    self._database.executemany(query, rows)
                for path, *_ in rows:  # a million clips need no second memory
                    self._of_path.pop(path, None)

    def _in_database(self, path: bytes) -> tuple[str, int, str] | None:
        """What other processes remembered of a path; None where they did not, or it is damaged."""
        if self._database is None:
            return None
        try:
            row = self._database.execute(FIND, (path,)).fetchone()
        except sqlite3.Error:
            return None
        return row[:3] if row and row[3] == _proof(path, *row[:3]) else None


def _proof(path: bytes, looks: object, seen_ns: object, digest: object) -> str:
    """sha256 over an entry: sqlite does not see a bit that flips in a text."""
    return hashlib.sha256(repr((path, looks, seen_ns, digest)).encode()).hexdigest()


@contextmanager
def remembering(work: Path) -> Iterator[DigestCache]:
    """The memo in a store's work folder, made anew where it is damaged.

    Where there is no such folder, or none that can be written to, what is read is remembered no
    longer than this process lives.
    """
    database = None
    if work.is_dir() and os.access(work, os.W_OK):
        try:
            database = _opened(digest_cache_file(work))
        except sqlite3.Error as error:
            if error.sqlite_errorcode in DAMAGE:
                database = _made_anew(digest_cache_file(work))
    if database is None:
        with recalling(work) as memo:
            yield memo
        return
    with closing(database):
        memo = DigestCache(database)
        try:
            yield memo
        finally:
            memo.save()


@contextmanager
def recalling(work: Path) -> Iterator[DigestCache]:
    """The memo in a store's work folder as it is; nothing is written."""
    try:
        uri = f"file:{quote(str(digest_cache_file(work).resolve()))}?mode=ro"
        database = sqlite3.connect(uri, uri=True, timeout=WAIT_S, isolation_level=None)
    except sqlite3.Error:
        yield DigestCache()
        return
    with closing(database):
        yield DigestCache(database)


def _opened(path: Path) -> sqlite3.Connection:
    """The database, with its table; `sqlite3.Error` where it is damaged or cannot be had."""
    database = sqlite3.connect(
        path,
        timeout=WAIT_S,
        isolation_level=None,
        check_same_thread=False,  # it is used by one thread after the other
    )
    try:
        database.execute("PRAGMA synchronous = OFF")  # a lost entry costs time alone
        database.execute(TABLE)
        database.execute("SELECT path, looks, seen_ns, sha256, proof FROM digests LIMIT 1")
    except BaseException:
        database.close()
        raise
    return database


def _made_anew(path: Path) -> sqlite3.Connection | None:
    """A new database in the place of a damaged one; None where it cannot be had."""
    try:
        for name in (path.name, f"{path.name}-journal"):
            path.with_name(name).unlink(missing_ok=True)
        return _opened(path)
    except (OSError, sqlite3.Error):
        return None
