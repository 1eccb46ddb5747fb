"""Settings of the allocator and the garbage collector."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Make glibc keep freed blocks of up to a gigabyte; returns whether it will.

    By default it returns each freed activation of tens of megabytes to the system, which clears the
    pages of the next one: a sixth of the time of a ViT-B/16 (two cores, benchmarks/allocation.py).
    The peak memory of the process stays the same. Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(mallopt(what, KEPT_BYTES) for what in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))


@contextmanager
def gc_paused() -> Iterator[None]:
    """Context manager and decorator that pauses the garbage collector; may be nested.

    Creating millions of objects that stay takes a tenth less time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
