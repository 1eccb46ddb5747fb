"""A command, and the most memory that it and its children have at a time.

What is counted is the proportional set size (PSS) of what no file backs: memory that is shared
counts once; the code of libraries, which the system may drop and read again, does not count.
"""

import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

EVERY_S = 0.1
MIB = 2**20
COUNTED = ("Pss_Anon:", "Pss_Shmem:")


def peak_of(command: Sequence[str], every_s: float = EVERY_S) -> tuple[str, float]:
    """What the command prints, and its peak in MiB; it must succeed.

    To look at a process of gigabytes stops it for a while: where it is timed, look less often.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(map(_pss_bytes, _family(process.pid))))
            time.sleep(every_s)
        assert process.stdout is not None
        said = process.stdout.read()  # a line: it fits the pipe while nobody reads
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return said, peak / MIB


def _family(pid: int) -> Iterator[int]:
    """The process, its children, theirs."""
    yield pid
    try:
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in listed.read_text().split():
                yield from _family(int(child))
    except OSError:  # it has ended
        return


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(COUNTED))
