"""The store backend for a folder of this machine."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.clip import Track
from features.errors import InputError, StoreError
from features.store.backend import Entry, StoreBackend
from features.store.commit import Commit, RecordHeader, read_commit, read_header
from features.store.layout import METADATA, read_metadata
from features.store.record import read_track
from features.system.files import check_writable, errors_name, sync_folder, write_atomic


@dataclass(frozen=True, slots=True)
class LocalBackend(StoreBackend):
    """A folder of this machine: a record is renamed into place."""

    root: Path

    def path(self, name: str = "") -> str:
        """The path on this machine."""
        return str(self.root / name)

    @property
    def work(self) -> Path:
        """The folder beside the store, on the same disk."""
        return self.root.with_name(self.root.name + ".work")

    def disk_path(self, name: str) -> Path:
        """Where it is to lie."""
        return self.root / name

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        return self.root.exists()

    def entries(self, name: str) -> list[Entry]:
        """What lies directly in a folder; a link is not followed."""
        try:
            with os.scandir(self.root / name) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            if not self.root.exists():  # a part of its path is a file
                return []
            raise InputError(
                f"{self.path()} exists and is no feature store; give a path that is free"
            ) from None
        return [Entry(entry.name, _kind(entry)) for entry in found]

    def metadata(self, name: str) -> bytes | None:
        """The bytes of a zarr.json; `StoreError` where it is a link, a giant, or not to be read."""
        path = f"{self.root}/{name}/{METADATA}" if name else f"{self.root}/{METADATA}"
        try:
            return read_metadata(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(
                f"{path} cannot be read ({error}); restore it, or move its folder out of the way"
            ) from None

    def put_metadata(self, name: str, data: bytes) -> None:
        """Put the file there in one step, and have the disk keep its name."""
        folder = self.root / name
        with errors_name(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.work.mkdir(exist_ok=True)
            write_atomic(folder / METADATA, data, self.work)
            sync_folder(folder.parent)

    def commit(self, name: str) -> Commit | None:
        """As `read_commit` has it."""
        return read_commit(f"{self.root}/{name}")

    def glance(self, name: str) -> RecordHeader:
        """As `features.store.commit.read_header` has it."""
        return read_header(f"{self.root}/{name}")

    def track(self, name: str, commit: Commit) -> Track:
        """As `read_track` has it."""
        return read_track(self.root / name, commit)

    @contextmanager
    def record(self, name: str) -> Iterator[Path]:
        """The record's own folder."""
        yield self.root / name

    def publish(self, staged: Path, name: str) -> None:
        """Rename the staged record into place: the line that commits is the last rename."""
        place, retired = self.root / name, staged.with_name(staged.name + ".old")
        if place.exists():  # a folder cannot be renamed over one that is not empty
            place.rename(retired)
        try:
            os.rename(staged, place)
        except BaseException:  # Ctrl-C, too
            if retired.exists() and not place.exists():
                retired.rename(place)
            raise
        sync_folder(place.parent)
        shutil.rmtree(retired, ignore_errors=True)

    def put_away(self, name: str, target: Path) -> bool:
        """Rename it."""
        if not os.path.lexists(self.root / name):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.root / name, target)
        return True

    def refuse_unless_safe(self) -> None:
        """Raise where the store leads elsewhere: links could name any file of this machine."""
        for entry in self.entries(""):
            if entry.kind == "link":
                raise StoreError(
                    f"{self.path(entry.name)} is a link; a store holds files and folders only: put "
                    "the folder itself there, or take the link away"
                )

    def refuse_unless_writable(self) -> None:
        """`InputError` or `VaflowError` where nothing can come to be at this path."""
        check_writable(self.root, "store")


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "file", "link"]:
    if entry.is_symlink():
        return "link"
    return "folder" if entry.is_dir() else "file"
