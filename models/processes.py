"""Work on several cores: a function over items, each in a process of its own."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], n_processes: int | None = None
) -> Iterator[Result]:
    """What the function makes of each item, in order; a process per core, unless told.

    Ctrl-C is the caller's alone: it ends the processes at once.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes or n_cores(), mp_context=spawn) as pool:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what they are born with
        jobs = [pool.submit(function, item) for item in items]
        signal.signal(signal.SIGINT, before)
        try:
            for job in jobs:
                yield job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise
