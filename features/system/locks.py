"""File locks that the kernel frees when their holder dies (`flock`).

A lock file of a library that writes a process id would stay locked after a kill.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from features.system.files import errors_name


@dataclass(frozen=True, slots=True)
class HeldLock:
    """A lock file that this process holds; the kernel frees it when the process dies."""

    path: Path
    handle: int

    def release(self) -> None:
        """Free the lock and remove its file."""
        try:
            with errors_name(self.path):
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self.handle)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Context manager: hold the lock exclusively; waits for it."""
    lock = None
    while lock is None:
        lock = _flock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        lock.release()


def try_lock(path: Path) -> HeldLock | None:
    """The lock, held exclusively until it is released; None if another holds it."""
    try:
        return _flock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _flock(path: Path, how: int) -> HeldLock | None:
    """The locked file, or None if the holder before removed it meanwhile.

    No child process keeps the lock: Python's descriptors do not survive an exec, and vaflow does
    not fork without one.
    """
    with errors_name(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with errors_name(path):
            fcntl.flock(handle, how)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return HeldLock(path, handle)
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None
