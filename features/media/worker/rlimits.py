"""What a process takes from itself before it touches untrusted media. Linux alone has all of it."""

import ctypes
import os
import resource
import signal
from math import ceil

from features.media.limits import DecodeLimits

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_NO_NEW_PRIVS = 38
OPEN_FILES = 64  # the media, the libraries' own, and room
MIB = 2**20
NICENESS = 10  # of what reads ahead: a core that the encoder wants is the encoder's


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when the thread that started it ends, however it ends."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # it ended before it could be asked for
        os._exit(1)


def apply_rlimits(limits: DecodeLimits) -> None:
    """Limit memory and open files; no file can be written, no core dumped, no right gained."""
    os.nice(NICENESS)
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # not RLIMIT_AS: that counts what threads reserve and never touch
    _limit(resource.RLIMIT_DATA, limits.memory_mib * MIB)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write is an error then, not the end
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, OPEN_FILES)


def set_cpu_budget(limits: DecodeLimits) -> None:
    """Let this process use so much processor time from now on; then SIGXCPU ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    until_s = ceil(used.ru_utime + used.ru_stime) + limits.cpu_s
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (_at_most(until_s, hard), hard))


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    most = _at_most(most, hard)
    resource.setrlimit(what, (most, most))


def _at_most(wanted: int, hard: int) -> int:
    """What a process may ask for: it can only lower its own ceiling."""
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
