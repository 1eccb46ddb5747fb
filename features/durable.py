"""Files and folders that come to be whole or not at all, and locks that the kernel frees."""

import fcntl
import hashlib
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError, VaflowError

ENDING = (signal.SIGINT, signal.SIGTERM)  # by which one asks a program to end


def write_whole(path: Path, data: bytes, staging: Path | None = None) -> None:
    """Put `data` at `path` in one step: a reader sees the old file or the new one.

    Until then it lies in `staging`, on the same file system; by default beside `path`.
    An `OSError` names `path`.
    """
    part = (staging or path.parent) / f".{path.name}.{uuid.uuid4().hex}.part"
    with naming(path):
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_if_other(path: Path, data: bytes) -> None:
    """Put `data` at `path` unless it is there already: the disk may be read-only."""
    if not path.is_file() or path.read_bytes() != data:
        write_whole(path, data)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within, an `OSError` names this path: a full disk names none, staging a name nobody knows."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def finishing() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM wait: what was begun is finished first.

    In other threads none arrives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def refuse_unless_writable(path: Path, what: str) -> None:
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


@dataclass(frozen=True, slots=True)
class Claim:
    """A lock file that this process holds; the kernel frees it when the process dies."""

    path: Path
    handle: int

    def release(self) -> None:
        """Let others have it, and leave no file behind."""
        try:
            with naming(self.path):
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self.handle)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file exclusively, waiting for it."""
    held = None
    while held is None:
        held = _locked(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        held.release()


def claim(path: Path) -> Claim | None:
    """Hold the lock file exclusively from now on, or None where another does."""
    try:
        return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _locked(path: Path, how: int) -> Claim | None:
    """The lock file, locked; None where its holder before us has taken it away meanwhile.

    No child may outlive us with it: Python's descriptors do not survive an exec, and we do not
    fork without one.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with naming(path):
            fcntl.flock(handle, how)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return Claim(path, handle)
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def sha256_of(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
