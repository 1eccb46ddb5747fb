"""Resource limits that a process sets on itself before it opens untrusted media (Linux only)."""

import ctypes
import os
import resource
import signal
from math import ceil

from features.media.limits import DecodeLimits

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_NO_NEW_PRIVS = 38
MAX_OPEN_FILES = 64  # the media file, and those of libraries
MIB = 2**20
NICENESS = 10  # the encoder has priority over decoding ahead


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, even by SIGKILL."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # the parent ended before the call above
        os._exit(1)


def apply_rlimits(limits: DecodeLimits) -> None:
    """Limit memory and open files; forbid writing files, core dumps and new privileges."""
    os.nice(NICENESS)
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # not RLIMIT_AS, which counts address space that threads reserve and never use
    _set_limit(resource.RLIMIT_DATA, limits.memory_mib * MIB)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write fails; it does not kill
    _set_limit(resource.RLIMIT_FSIZE, 0)
    _set_limit(resource.RLIMIT_CORE, 0)
    _set_limit(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)


def set_cpu_budget(limits: DecodeLimits) -> None:
    """Allow `limits.cpu_s` of processor time from now on; then SIGXCPU ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    until_s = ceil(used.ru_utime + used.ru_stime) + limits.cpu_s
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_capped(until_s, hard), hard))


def _set_limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = _capped(value, hard)
    resource.setrlimit(kind, (value, value))


def _capped(value: int, hard: int) -> int:
    """The value, or the hard limit if that is lower: a process cannot raise it."""
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
