"""The store backend for an object store: the objects have the names of a folder's files.

S3 has no rename, but an object appears as a whole, and to all readers at once. A record is
staged on this machine by the same code and with the same bytes as for a folder; its commit is the
first object that is deleted and the last that is put:

    delete <set>/<clip>/zarr.json      the record is now missing
    delete files that the new record does not have
    put each file of the new record
    put <set>/<clip>/zarr.json         only if there is none: the record is now complete

A kill or a lost connection at any moment leaves the old record, the new one or none
(test_s3.py). A folder per version would keep the old record until the new one is complete,
but programs that read with plain zarr would not find the arrays, and a store copied to or from a
folder would not be the same store.

Locks, quarantine, caches and staging are on this machine (`S3Backend.work`): the processes of one
machine can share a store as they share a folder. Several machines must extract different clips. If
two write the same clip at once, the record may read as corrupt and is extracted again; since a
reader checks the sha256 of every file, it never gets a mixture of both.
"""

import hashlib
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from features.errors import InputError, StoreError
from features.store.backend import Entry, StoreBackend
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
from features.store.s3_client import NO_BUCKET, error_code, s3_errors, server_url

SCHEME = "s3://"
URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._=+-]*[A-Za-z0-9_=+-])+")
MAX_RECORD_BYTES = 2 * MAX_TRACK_BYTES  # times and validity are smaller than the values
DIGITS = 12  # hexadecimal, of the digest in the name of a work folder
EMPTY_OBJECT = ("InvalidRange", "416")  # codes if a range of an object of 0 bytes is requested


@dataclass(frozen=True, slots=True)
class S3Backend(StoreBackend):
    """A prefix in a bucket: a record is published by uploading it, its commit last.

    Raises `InputError` if `url` is not s3://BUCKET/PREFIX. Methods raise `InputError` or
    `Unreachable` as `s3_errors` does.
    """

    url: str
    is_atomic = False  # objects are replaced one by one

    def __post_init__(self) -> None:
        if not URL.fullmatch(self.url):
            raise InputError(
                f"store = {self.url!r} is no {SCHEME}BUCKET/PREFIX; a prefix has one name or more, "
                "of letters, digits and . _ = + -"
            )

    @property
    def work(self) -> Path:
        """$XDG_STATE_HOME/vaflow/..., named after this URL and the URL of the server."""
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        digest = hashlib.sha256(f"{server_url(self.url)} {self.url}".encode()).hexdigest()[:DIGITS]
        return Path(state) / "vaflow" / f"{self.url.rsplit('/', 1)[-1]}-{digest}.work"

    def path(self, name: str = "") -> str:
        """The URL."""
        return f"{self.url}/{name}" if name else self.url

    def staging_path(self, name: str) -> Path:
        """The work folder: records are staged there."""
        return self.work

    def entries(self, name: str) -> list[Entry]:
        """The entries directly below a prefix; common prefixes are folders."""
        above = f"{self._key(name)}/"
        with s3_errors(self.url) as client:
            try:
                listed = client.ls(self._key(name), detail=True)
            except FileNotFoundError as error:
                if error_code(error) == NO_BUCKET:
                    raise
                return []
        return sorted(
            Entry(name.removeprefix(above), "folder" if info["type"] == "directory" else "file")
            for info in listed
            if (name := info["name"]).startswith(above) and name != above
        )

    def metadata(self, name: str) -> bytes | None:
        """The bytes of a zarr.json; no more than the limit is requested."""
        path = posixpath.join(name, METADATA)
        with s3_errors(self.url) as client:
            try:
                raw = client.cat_file(self._key(path), start=0, end=MAX_METADATA_BYTES + 1)
            except OSError as error:
                code = error_code(error)
                if isinstance(error, FileNotFoundError) and code != NO_BUCKET:
                    return None
                if code in EMPTY_OBJECT:
                    return b""
                raise
        if len(raw) > MAX_METADATA_BYTES:
            raise StoreError(
                f"{self.path(path)} is too large; metadata has {MAX_METADATA_BYTES} bytes at most"
            )
        return raw

    def put_metadata(self, name: str, data: bytes) -> None:
        """Put the object."""
        with s3_errors(self.url) as client:
            client.pipe_file(self._key(posixpath.join(name, METADATA)), data)

    def file_sizes(self, name: str, files: Iterable[str] = ()) -> dict[str, int]:
        """The bytes of every object below a record, by path inside it: one request for all."""
        above = f"{self._key(name)}/"
        with s3_errors(self.url) as client:
            listed = client.find(self._key(name), detail=True)
        return {
            key.removeprefix(above): info["size"]
            for key, info in listed.items()
            if key.startswith(above)
        }

    @contextmanager
    def record(self, name: str) -> Iterator[Path]:
        """A temporary folder with the objects of the record.

        Raises `StoreError` before anything is downloaded if an object is no file of a record or is
        too large, and afterwards if an object was deleted meanwhile.
        """
        sizes = self.file_sizes(name)
        if len(sizes) > MAX_ENTRIES or sum(sizes.values()) > MAX_RECORD_BYTES:
            raise StoreError(f"{self.path(name)} is larger than any record; delete it")
        for file, n_bytes in sizes.items():
            if reason := _foreign_reason(file, n_bytes):
                raise StoreError(f"{self.path(f'{name}/{file}')} {reason}; delete it")
        with TemporaryDirectory(prefix="vaflow-") as scratch:
            folder = Path(scratch) / "record"
            folder.mkdir()
            try:
                self._download(name, list(sizes), folder)
            except FileNotFoundError as error:
                raise StoreError(f"{self.path(name)} was replaced while it was read") from error
            yield folder

    def publish(self, staged: Path, name: str) -> None:
        """Upload the staged record in the order given at the top of this file.

        Raises `StoreError` if another machine committed the clip meanwhile.
        """
        data = (staged / METADATA).read_bytes()
        files = sorted(files_in(staged).keys() - {METADATA})
        before = self.file_sizes(name)
        commit_key = self._key(f"{name}/{METADATA}")
        with s3_errors(self.url) as client:
            self._delete(name, before.keys() - set(files))
            client.put(
                [str(staged / file) for file in files],
                [self._key(f"{name}/{file}") for file in files],
            )
            try:
                client.pipe_file(commit_key, data, mode="create")
            except FileExistsError:
                if self.metadata(name) == data:
                    return  # ours: the answer was lost, and the client repeated the request
                raise StoreError(
                    f"{self.path(name)} was committed by another machine at the same time; let "
                    "each machine extract clips of its own; if the two records differ, "
                    "`vaflow verify --repair` extracts the clip again"
                ) from None

    def move_out(self, name: str, target: Path) -> bool:
        """Download a record or a file of it, then delete it, a commit first.

        An object that is no file of a record stays; the next record of the clip replaces it.
        """
        with s3_errors(self.url) as client:
            if client.find(self._key(name)) == [self._key(name)]:
                client.get([self._key(name)], [str(target)])
                client.rm_file(self._key(name))
                return True
            sizes = self.file_sizes(name)
            files = [file for file in sizes if not _foreign_reason(file, sizes[file])]
            self._download(name, files, target)
            self._delete(name, files)
        return bool(files)

    def check_no_links(self) -> None:
        """Do nothing: an object store has no links."""

    def check_writable(self) -> None:
        """Do nothing: the first upload raises the error."""

    def _key(self, name: str) -> str:
        return self.path(name).removeprefix(SCHEME)

    def _download(self, name: str, files: list[str], folder: Path) -> None:
        with s3_errors(self.url) as client:
            client.get(
                [self._key(f"{name}/{file}") for file in files],
                [str(folder / file) for file in files],
            )

    def _delete(self, name: str, files: Iterable[str]) -> None:
        """Delete files of a record, its commit first."""
        with s3_errors(self.url) as client:
            # one by one: s3fs does not report that some of several deletions failed
            for file in sorted(files, key=lambda file: file != METADATA):
                client.rm_file(self._key(f"{name}/{file}"))


def _foreign_reason(file: str, n_bytes: int) -> str:
    """Why an object cannot belong to a record, by path inside it; empty if it can."""
    if file != METADATA and not re.fullmatch(FILE_PATTERN, file):
        return "is no file of a record"
    limit = MAX_METADATA_BYTES if file.endswith(METADATA) else CHUNK_BYTES + CHECKSUM_BYTES
    return f"has {n_bytes} bytes, the limit is {limit}" if n_bytes > limit else ""
