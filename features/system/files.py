"""Atomic writes, syncs and digests of files."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import InputError, VaflowError


def write_atomic(path: Path, data: bytes, staging: Path | None = None) -> None:
    """Write a file in one step: a reader sees the old file or the new one, also after a power cut.

    It is written in `staging`, which must be on the same file system (by default the folder of
    `path`), synced and renamed (test_files.py). An `OSError` names `path`.
    """
    with replacing(path, staging) as part:
        part.write_bytes(data)


@contextmanager
def replacing(path: Path, staging: Path | None = None) -> Iterator[Path]:
    """Context manager: where to write a file that replaces `path` at the end, as `write_atomic`."""
    part = (staging or path.parent) / f".{path.name}.{uuid.uuid4().hex}.part"
    with errors_name(path):
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_if_changed(path: Path, data: bytes) -> None:
    """Write a file in one step unless it has these bytes; then the disk may be read-only."""
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data)


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Context manager: an `OSError` names this path, and not a staged file or none at all."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_writable(path: Path, what: str) -> None:
    """Raise if nothing can be created at a path; `what` is the key it was given for.

    Raises `InputError` if a parent is not a folder, `VaflowError` if it is not writable.
    """
    above = next(parent for parent in (path, *path.resolve().parents) if parent.exists())
    if not above.is_dir():
        raise InputError(f"{what} = {path}: {above} is no folder; give another path")
    if not os.access(above, os.W_OK):
        raise VaflowError(
            f"{what} = {path}: {above} cannot be written to (no right to, or a read-only disk); "
            "give another path, or change that"
        )


def sync_tree(folder: Path) -> None:
    """Sync every file and folder below a folder to disk, files before their folders."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
