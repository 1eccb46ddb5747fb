"""Where a store lies: what it asks of a disk, or of an object store.

Names are paths inside the store: `""` is its root, `<set>` a feature set, `<set>/<clip>` a record.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features.clip import Track
from features.errors import InputError
from features.store.commit import Commit, RecordHeader


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that lies directly in a store or a set."""

    name: str
    kind: Literal["folder", "file", "link"]


class StoreBackend(ABC):
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
    def glance(self, name: str) -> RecordHeader:
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
