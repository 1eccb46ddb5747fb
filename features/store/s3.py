"""A store on an object store: the same files under the same names as in a folder, by S3's protocol.

Nothing can be renamed there, but an object appears whole or not at all, and is seen by all at once.
So a record is staged on this machine, by the same code and with the same bytes as in a folder, and
its commit is the first object that goes and the last that comes:

    delete <set>/<clip>/zarr.json      from here on the clip is missing
    delete what the new record has not
    put each file of the new record
    put <set>/<clip>/zarr.json         only if none is there: from here on the clip is complete

A kill or a lost connection at any moment leaves the old record, the new one, or none. The other
way, a folder of its own for each version, would keep the old one until the new is there; but no
program that reads with plain zarr would find the arrays, and a store would not be the same
store after it was copied from or to a folder.

Locks, the quarantine, memos and staging lie on this machine (`S3Backend.work`): processes of one
machine share a store as they share a folder. Several machines must work on different clips. Where
they do not, the record of a clip that two write at once may read as corrupt, and is extracted
again; what is read is held to the sha256 that the commit has of each file, so it is never a mixture
of both.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from features.clip import Track
from features.errors import InputError, StoreError
from features.store.backend import Entry, StoreBackend
from features.store.commit import Commit, RecordHeader, parse_commit
from features.store.layout import (
    CHECKSUM_BYTES,
    CHUNK_BYTES,
    FILE_PATTERN,
    MAX_ENTRIES,
    MAX_METADATA_BYTES,
    MAX_TRACK_BYTES,
    METADATA,
    files_in,
)
from features.store.record import read_track
from features.store.s3_client import is_empty_object, is_of_bucket, s3_errors, server_url
from features.system.files import sha256_of

SCHEME = "s3://"
URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._=+-]*[A-Za-z0-9_=+-])+")
MAX_RECORD_BYTES = 2 * MAX_TRACK_BYTES  # times and validity are a part of the values
DIGITS = 12  # hexadecimal, of the digest that names a work folder


def s3_backend(url: str) -> "S3Backend":
    """The place at s3://BUCKET/PREFIX; `InputError` where that is no such URL."""
    if not URL.fullmatch(url.rstrip("/")):
        raise InputError(
            f"store = {url!r} is no {SCHEME}BUCKET/PREFIX; a prefix has one name or more, of "
            "letters, digits and . _ = + -"
        )
    return S3Backend(url.rstrip("/"))


@dataclass(frozen=True, slots=True)
class S3Backend(StoreBackend):
    """A prefix in a bucket: a record is uploaded, its commit last."""

    url: str

    def path(self, name: str = "") -> str:
        """The URL."""
        return f"{self.url}/{name}" if name else self.url

    @property
    def work(self) -> Path:
        """A folder of this machine for this URL on this server: $XDG_STATE_HOME/vaflow/..."""
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        digest = hashlib.sha256(f"{server_url(self.url)} {self.url}".encode()).hexdigest()[:DIGITS]
        return Path(state) / "vaflow" / f"{self.url.rsplit('/', 1)[-1]}-{digest}.work"

    def disk_path(self, name: str) -> Path:
        """The work folder."""
        return self.work

    def exists(self) -> bool:
        """Whether the prefix has any object."""
        return bool(self.entries(""))

    def entries(self, name: str) -> list[Entry]:
        """What lies directly below a prefix, as folders have it."""
        above = f"{self._key(name)}/"
        with self._asking() as files:
            try:
                listed = files.ls(self._key(name), detail=True)
            except FileNotFoundError as error:
                if is_of_bucket(error):
                    raise
                return []
        found = {
            each["name"].removeprefix(above): each["type"]
            for each in listed
            if each["name"].startswith(above) and each["name"] != above
        }
        return [
            Entry(inner, "folder" if found[inner] == "directory" else "file")
            for inner in sorted(found)
        ]

    def metadata(self, name: str) -> bytes | None:
        """The bytes of a zarr.json, of which no more than a limit is read."""
        path = f"{name}/{METADATA}" if name else METADATA
        with self._asking() as files:
            try:
                raw = files.cat_file(self._key(path), start=0, end=MAX_METADATA_BYTES + 1)
            except FileNotFoundError as error:
                if is_of_bucket(error):
                    raise
                return None
            except OSError as error:
                if not is_empty_object(error):
                    raise
                return b""
        if len(raw) > MAX_METADATA_BYTES:
            raise StoreError(
                f"{self.path(path)} is too large; metadata has {MAX_METADATA_BYTES} bytes at most"
            )
        return raw

    def put_metadata(self, name: str, data: bytes) -> None:
        """Put the object."""
        with self._asking() as files:
            files.pipe_file(self._key(f"{name}/{METADATA}" if name else METADATA), data)

    def commit(self, name: str) -> Commit | None:
        """The record's commit, of the object that is there now."""
        raw = self.metadata(name)
        return None if raw is None else parse_commit(raw, self.path(f"{name}/{METADATA}"))

    def glance(self, name: str) -> RecordHeader:
        """The commit, and whether the objects that it names are listed: two requests."""
        try:
            commit = self.commit(name)
            if commit is None:
                return RecordHeader(None)
            sizes = self._sizes(name)
            for file in commit.files:
                if not sizes.get(file):
                    raise StoreError(f"{file} is {'empty' if file in sizes else 'missing'}")
        except StoreError as error:
            return RecordHeader(None, fault=str(error))
        return RecordHeader(commit, sum(sizes.get(file, 0) for file in (METADATA, *commit.files)))

    def track(self, name: str, commit: Commit) -> Track:
        """The track, of objects whose sha256 are those of the commit: they were put one by one."""
        with self.record(name) as folder:
            for file, digest in commit.files.items():
                if (folder / file).exists() and sha256_of(folder / file) != digest:
                    raise StoreError(f"{file} was changed, or replaced while it was read")
            return read_track(folder, commit)

    @contextmanager
    def record(self, name: str) -> Iterator[Path]:
        """A temporary folder with the record's objects, downloaded once.

        `StoreError` where one is no file of a record, or too large: nothing is downloaded then.
        """
        with TemporaryDirectory(prefix="vaflow-") as scratch:
            folder = Path(scratch) / "record"
            folder.mkdir()
            self._download(name, folder)
            yield folder

    def publish(self, staged: Path, name: str) -> None:
        """Put the staged record there as the head of this file says; the last put commits.

        `StoreError` where another machine committed the clip meanwhile.
        """
        data = (staged / METADATA).read_bytes()
        wanted = sorted(files_in(staged).keys() - {METADATA})
        before = self._sizes(name)
        with self._asking() as files:
            # one by one: s3fs takes no notice where a deletion of many failed for some
            if METADATA in before:
                files.rm_file(self._key(f"{name}/{METADATA}"))
            for file in sorted(before.keys() - {METADATA, *wanted}):
                files.rm_file(self._key(f"{name}/{file}"))
            files.put(
                [str(staged / file) for file in wanted],
                [self._key(f"{name}/{file}") for file in wanted],
            )
            self._put_commit(files, name, data)

    def _put_commit(self, files: Any, name: str, data: bytes) -> None:
        """Put a commit where there is none."""
        try:
            files.pipe_file(self._key(f"{name}/{METADATA}"), data, mode="create")
        except FileExistsError:
            if self.metadata(name) != data:  # else it is ours: an answer was lost, and asked again
                raise StoreError(
                    f"{self.path(name)} was committed by another machine at the same time; let "
                    "each machine have clips of its own; where the two records are not the same, "
                    "`vaflow verify --repair` has the clip extracted again"
                ) from None

    def put_away(self, name: str, target: Path) -> bool:
        """Download it, then delete it, a commit first.

        What is no file of a record is left where it lies: the next record in this place removes it.
        """
        with self._asking() as files:
            if files.find(self._key(name)) == [self._key(name)]:
                files.get_file(self._key(name), str(_with_folder(target)))
                files.rm_file(self._key(name))
                return True
            sizes = self._sizes(name)
            fitting = [file for file in sizes if not _foreign_reason(file, sizes[file])]
            self._get(name, fitting, target)
            for file in sorted(fitting, key=lambda file: file != METADATA):
                files.rm_file(self._key(f"{name}/{file}"))
        return bool(fitting)

    def refuse_unless_safe(self) -> None:
        """Nothing: an object leads nowhere."""

    def refuse_unless_writable(self) -> None:
        """Nothing: the first object that is put tells."""

    def _key(self, name: str) -> str:
        """Bucket and key of a name."""
        return self.path(name).removeprefix(SCHEME)

    def _asking(self) -> AbstractContextManager[Any]:
        """Within, the server is asked; its errors say what to do."""
        return s3_errors(self.url)

    def _sizes(self, name: str) -> dict[str, int]:
        """The size of every object below a record, by path inside it."""
        above = f"{self._key(name)}/"
        with self._asking() as files:
            found = files.find(self._key(name), detail=True)
        return {
            key.removeprefix(above): each["size"]
            for key, each in found.items()
            if key.startswith(above)
        }

    def _download(self, name: str, folder: Path) -> None:
        """Bring a record's objects to a folder of this machine, if they are within limits."""
        sizes = self._sizes(name)
        if len(sizes) > MAX_ENTRIES or sum(sizes.values()) > MAX_RECORD_BYTES:
            raise StoreError(f"{self.path(name)} is larger than any record; delete it")
        for file, n_bytes in sizes.items():
            if why := _foreign_reason(file, n_bytes):
                raise StoreError(f"{self.path(f'{name}/{file}')} {why}; delete it")
        try:
            self._get(name, list(sizes), folder)
        except FileNotFoundError as error:
            raise StoreError(f"{self.path(name)} was replaced while it was read") from error

    def _get(self, name: str, names: list[str], folder: Path) -> None:
        """Bring these files of a record to a folder of this machine."""
        with self._asking() as files:
            files.get(
                [self._key(f"{name}/{file}") for file in names],
                [str(_with_folder(folder / file)) for file in names],
            )


def _foreign_reason(file: str, n_bytes: int) -> str:
    """Why an object is none of a record's, by path inside it; empty where it may be one."""
    if file != METADATA and not re.fullmatch(FILE_PATTERN, file):
        return "is no file of a record"
    limit = MAX_METADATA_BYTES if file.endswith(METADATA) else CHUNK_BYTES + CHECKSUM_BYTES
    return f"has {n_bytes} bytes, where {limit} are the most" if n_bytes > limit else ""


def _with_folder(path: Path) -> Path:
    """The path, in a folder that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
