"""Where a store lies: what it asks of a disk, or of an object store.

Names are paths inside the store: `""` is its root, `<set>` a feature set, `<set>/<clip>` a record.
"""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.durable import naming, refuse_unless_writable, sync_folder, write_whole
from features.errors import InputError, StoreError
from features.glance import Glance, glance
from features.record_form import METADATA, read_metadata
from features.records import Track
from features.store_record import Commit, read_commit, read_track


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that lies directly in a store or a set."""

    name: str
    kind: Literal["folder", "file", "link"]


class Place(ABC):
    """Groups and records under one root; a record is there whole, or not at all."""

    @abstractmethod
    def path(self, name: str = "") -> str:
        """How a person finds what has this name."""

    @property
    @abstractmethod
    def work(self) -> Path:
        """The folder on this machine for what is not a record: staging, locks, quarantine."""

    @abstractmethod
    def disk_path(self, name: str) -> Path:
        """The path on this machine's disk that is at fault where a record cannot be staged."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether anything lies here."""

    @abstractmethod
    def entries(self, name: str) -> list[Entry]:
        """What lies directly in a group, sorted by name; nothing where there is no group."""

    def folders(self, name: str) -> list[str]:
        """The names of the folders directly in a group, sorted."""
        return [entry.name for entry in self.entries(name) if entry.kind == "folder"]

    @abstractmethod
    def metadata(self, name: str) -> bytes | None:
        """The bytes of a group's or array's zarr.json; None where there is none.

        `StoreError` where it is a link or a giant.
        """

    @abstractmethod
    def put_metadata(self, name: str, data: bytes) -> None:
        """Make a group of this zarr.json, which a reader sees whole or not at all."""

    @abstractmethod
    def commit(self, name: str) -> Commit | None:
        """A record's commit, or None where there is none; raises as `read_commit`."""

    @abstractmethod
    def glance(self, name: str) -> Glance:
        """What one sees of a record without reading its arrays."""

    @abstractmethod
    def track(self, name: str, commit: Commit) -> Track:
        """The track that was committed; raises as `read_track` where it is not."""

    @abstractmethod
    def record(self, name: str) -> AbstractContextManager[Path]:
        """Within, a folder of this machine that holds a record's files as they are."""

    @abstractmethod
    def publish(self, staged: Path, name: str) -> None:
        """Have the staged record take the place of what is there, its commit last."""

    @abstractmethod
    def put_away(self, name: str, target: Path) -> bool:
        """Move a record or a file of it to `target`; False where it is not there."""

    @abstractmethod
    def refuse_unless_safe(self) -> None:
        """Raise where the store leads elsewhere."""

    @abstractmethod
    def refuse_unless_writable(self) -> None:
        """Raise where one sees beforehand that nothing can be written."""

    def refuse_unless_free(self) -> None:
        """`InputError` unless a new store may come to be here, or one is here by now."""
        if self.exists() and self.metadata("") is None and self.entries(""):
            raise InputError(
                f"{self.path()} exists and is no feature store; give a path that is free"
            )


@dataclass(frozen=True, slots=True)
class Folder(Place):
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
        with naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.work.mkdir(exist_ok=True)
            write_whole(folder / METADATA, data, self.work)
            sync_folder(folder.parent)

    def commit(self, name: str) -> Commit | None:
        """As `read_commit` has it."""
        return read_commit(f"{self.root}/{name}")

    def glance(self, name: str) -> Glance:
        """As `features.glance.glance` has it."""
        return glance(f"{self.root}/{name}")

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
        refuse_unless_writable(self.root, "store")


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "file", "link"]:
    if entry.is_symlink():
        return "link"
    return "folder" if entry.is_dir() else "file"
