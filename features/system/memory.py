"""Memory: what networks free and take again stays with the process; what lasts is not searched."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Have glibc give no freed block under a gigabyte back to the system; whether it will.

    By its defaults each activation of tens of megabytes is new memory, which the system clears
    page by page: a sixth of the time of a ViT-B/16 on two cores (benchmarks/allocation.py). The
    most that the process takes is not changed, only that it keeps it. Other C libraries stay as
    they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(mallopt(what, KEPT_BYTES) for what in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD))


@contextmanager
def gc_paused() -> Iterator[None]:
    """Within, no cycles are looked for: among millions of objects that last, that is a tenth of it.

    Also a decorator. Nested, the outermost counts.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
