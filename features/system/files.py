"""Files and folders that come to be whole or not at all, and locks that the kernel frees."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from features.errors import InputError, VaflowError


def write_atomic(path: Path, data: bytes, staging: Path | None = None) -> None:
    """Put `data` at `path` in one step: a reader sees the old file or the new one.

    Until then it lies in `staging`, on the same file system; by default beside `path`.
    An `OSError` names `path`.
    """
    part = (staging or path.parent) / f".{path.name}.{uuid.uuid4().hex}.part"
    with errors_name(path):
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_if_changed(path: Path, data: bytes) -> None:
    """Put `data` at `path` unless it is there already: the disk may be read-only."""
    if not path.is_file() or path.read_bytes() != data:
        write_atomic(path, data)


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Within, an `OSError` names this path: a full disk names none, staging a name nobody knows."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_writable(path: Path, what: str) -> None:
    """Raise where nothing can come to be at a path: `what` is the key that gave it.

    `InputError` where a part of the path is no folder, `VaflowError` where one may not write.
    """
    above = next(place for place in (path, *path.resolve().parents) if place.exists())
    if not above.is_dir():
        raise InputError(f"{what} = {path}: {above} is no folder; give another path")
    if not os.access(above, os.W_OK):
        raise VaflowError(
            f"{what} = {path}: {above} cannot be written to (no right to, or a read-only disk); "
            "give another path, or change that"
        )


def sync_tree(folder: Path) -> None:
    """Ask the disk to keep every file and folder below `folder`, files before their folders."""
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            with open(os.path.join(here, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(here))


def sync_folder(folder: Path) -> None:
    """Ask the disk to keep the names in a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
