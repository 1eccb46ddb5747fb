"""The store backend for a folder of this machine."""

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.errors import InputError, StoreError
from features.store.backend import Entry, StoreBackend
from features.store.layout import METADATA, group_metadata
from features.system.files import check_writable, errors_name, sync_folder, write_atomic


@dataclass(frozen=True, slots=True)
class LocalBackend(StoreBackend):
    """A folder: a record is published by renaming it into place."""

    root: Path
    is_atomic = True  # a rename replaces all files of a record at once

    @property
    def work(self) -> Path:
        """`<store>.work`, beside the store and so on the same file system."""
        return self.root.with_name(self.root.name + ".work")

    def path(self, name: str = "") -> str:
        """The path on this machine."""
        return f"{self.root}/{name}" if name else str(self.root)

    def staging_path(self, name: str) -> Path:
        """The path of the record."""
        return self.root / name

    def entries(self, name: str) -> list[Entry]:
        """The entries of a folder; a link is an entry of its own and is not followed."""
        try:
            with os.scandir(self.root / name) as entries:
                return sorted(Entry(entry.name, _kind(entry)) for entry in entries)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            if not self.root.exists():  # a parent of the root is a file
                return []
            raise InputError(
                f"{self.path()} exists and is no feature store; give a path that is free"
            ) from None

    def metadata(self, name: str) -> bytes | None:
        """The bytes of a zarr.json; the root of the store may be a link."""
        return group_metadata(self.path(name), may_be_link=not name)

    def put_metadata(self, name: str, data: bytes) -> None:
        """Write the file in one step, and sync the folder that names the group."""
        folder = self.root / name
        with errors_name(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.work.mkdir(exist_ok=True)
            write_atomic(folder / METADATA, data, self.work)
            sync_folder(folder.parent)

    def file_sizes(self, name: str, files: Iterable[str]) -> dict[str, int]:
        """The sizes, with one `lstat` per file."""
        folder, sizes = self.path(name), {}
        for file in files:
            try:
                status = os.lstat(f"{folder}/{file}")
            except (FileNotFoundError, NotADirectoryError):
                continue
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"{file} is a link or no file")
            sizes[file] = status.st_size
        return sizes

    @contextmanager
    def record(self, name: str) -> Iterator[Path]:
        """The record's own folder."""
        yield self.root / name

    def publish(self, staged: Path, name: str) -> None:
        """Rename the staged record into place; the last rename commits it."""
        target, retired = self.root / name, staged.with_name(staged.name + ".old")
        if target.exists():  # a folder cannot be renamed over one that is not empty
            target.rename(retired)
        try:
            os.rename(staged, target)
        except BaseException:  # KeyboardInterrupt, too
            if retired.exists() and not target.exists():
                retired.rename(target)
            raise
        sync_folder(target.parent)
        shutil.rmtree(retired, ignore_errors=True)

    def move_out(self, name: str, target: Path) -> bool:
        """Rename a record or one of its files."""
        if not os.path.lexists(self.root / name):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.root / name, target)
        return True

    def check_no_links(self) -> None:
        """Raise `StoreError` if an entry is a link: it could name any file of this machine."""
        for entry in self.entries(""):
            if entry.kind == "link":
                raise StoreError(
                    f"{self.path(entry.name)} is a link; a store holds files and folders only: "
                    "replace it with the folder itself, or remove it"
                )

    def check_writable(self) -> None:
        """Raise `InputError` or `VaflowError` if nothing can be created at this path."""
        check_writable(self.root, "store")


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "file", "link"]:
    if entry.is_symlink():
        return "link"
    return "folder" if entry.is_dir() else "file"
