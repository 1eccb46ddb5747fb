"""Locks on files, which the kernel frees when their holder dies."""

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
        """Let others have it, and leave no file behind."""
        try:
            with errors_name(self.path):
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self.handle)


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock file exclusively, waiting for it."""
    held = None
    while held is None:
        held = _try_flock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        held.release()


def try_lock(path: Path) -> HeldLock | None:
    """Hold the lock file exclusively from now on, or None where another does."""
    try:
        return _try_flock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def _try_flock(path: Path, how: int) -> HeldLock | None:
    """The lock file, locked; None where its holder before us has taken it away meanwhile.

    No child may outlive us with it: Python's descriptors do not survive an exec, and we do not
    fork without one.
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
