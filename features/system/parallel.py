"""The same function on many things at once, each in a process of its own."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from operator import add
from typing import TypeVar

from features.errors import VaflowError

Item = TypeVar("Item")
Result = TypeVar("Result")


def n_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], n_processes: int | None = None
) -> Iterator[Result]:
    """What the function makes of each item, in order; a process per core, unless told.

    Ctrl-C is the caller's alone: it ends the processes at once. `VaflowError` where a process is
    killed from outside.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes or n_cores(), mp_context=spawn) as pool:
        with _deaf_to_ctrl_c():  # what they are born with
            jobs = [pool.submit(function, item) for item in items]
        try:
            for job in jobs:
                yield job.result()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                raise VaflowError(
                    "a process that worked on a part was killed (was there too little memory?); "
                    "run the same again: what is done is kept"
                ) from None
            raise


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Within, Ctrl-C is not heard. Only the main thread can hear it, or be deaf to it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def parallel_sum(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    n_threads: int | None = None,
    on_done: Callable[[Item], None] | None = None,
) -> Result:
    """The sum, by `+`, of what the function makes of each item, of which there must be one.

    A thread per core, unless fewer are wanted. `on_done` hears of each item, one at a time.
    """
    import dask.bag  # half a second, which `map_in_processes` need not pay

    speaking = threading.Lock()

    def done(item: Item) -> Result:
        result = function(item)
        if on_done:
            with speaking:
                on_done(item)
        return result

    whole = dask.bag.from_sequence(items, npartitions=len(items)).map(done).fold(add)
    n_wanted = min(n_threads or n_cores(), n_cores())
    return whole.compute(scheduler="threads", num_workers=n_wanted)
