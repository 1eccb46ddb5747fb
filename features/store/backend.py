"""The storage backend of a feature store: bytes, entries, sizes, publishing and moving out.

A name is a path inside the store: `""` is its root, `<set>` a feature set, `<set>/<clip>` a record.
The meaning of the bytes is defined in commit.py, record.py and feature_store.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from features.errors import InputError


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """An entry of a store or of a feature set."""

    name: str
    kind: Literal["folder", "file", "link"]


class StoreBackend(ABC):
    """Groups and records under one root; a record is published whole or not at all."""

    is_atomic: ClassVar[bool]
    """Whether no reader can see files of two records mixed."""

    @property
    @abstractmethod
    def work(self) -> Path:
        """The folder on this machine for everything that is not a record (work_folder.py)."""

    @abstractmethod
    def path(self, name: str = "") -> str:
        """The path or URL of a name, for messages."""

    @abstractmethod
    def staging_path(self, name: str) -> Path:
        """The local path that an `OSError` names if the record cannot be staged or published."""

    @abstractmethod
    def entries(self, name: str) -> list[Entry]:
        """The entries of a group, sorted by name; empty if there is no such group."""

    def folders(self, name: str) -> list[str]:
        """The names of the folders in a group, sorted."""
        return [entry.name for entry in self.entries(name) if entry.kind == "folder"]

    @abstractmethod
    def metadata(self, name: str) -> bytes | None:
        """The bytes of the zarr.json of a group or an array, or None if there is none.

        Raises `StoreError` if it is a link or too large, `OSError` if it cannot be read.
        """

    @abstractmethod
    def put_metadata(self, name: str, data: bytes) -> None:
        """Create or replace the zarr.json of a group in one step."""

    @abstractmethod
    def file_sizes(self, name: str, files: Iterable[str]) -> dict[str, int]:
        """The sizes of those files of a record that exist; the result may have others, too.

        Raises `StoreError` if one is not a regular file.
        """

    @abstractmethod
    def record(self, name: str) -> AbstractContextManager[Path]:
        """Context manager: a local folder with the files of a record, unchecked."""

    @abstractmethod
    def publish(self, staged: Path, name: str) -> None:
        """Replace the record by the staged one, whose commit becomes visible last."""

    @abstractmethod
    def move_out(self, name: str, target: Path) -> bool:
        """Move a record or one of its files to `target`; False if there is none."""

    @abstractmethod
    def check_no_links(self) -> None:
        """Raise `StoreError` if an entry of the store is a link."""

    @abstractmethod
    def check_writable(self) -> None:
        """Raise `InputError` or `VaflowError` if nothing can be written."""

    def check_free(self) -> None:
        """Raise `InputError` if something other than a store is at this path."""
        if self.metadata("") is None and self.entries(""):
            raise InputError(
                f"{self.path()} exists and is no feature store; give a path that is free"
            )
