"""A function mapped over items in processes, or summed over items in threads."""

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
from features.system.signals import handling

Item = TypeVar("Item")
Result = TypeVar("Result")


def n_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def process_pool(n_processes: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """Processes for several calls of `map_in_processes`, by default one per core.

    An exception inside the context, such as that of SIGINT, ends them at once. They also end when
    the caller is killed. Raises `VaflowError` if one of them is killed from outside.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        n_processes or n_cores(), mp_context=spawn, initializer=_end_with_parent
    ) as pool:
        try:
            yield pool
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


def map_in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    n_processes: int | None = None,
    pool: ProcessPoolExecutor | None = None,
) -> Iterator[Result]:
    """The result of the function for each item, in order, in processes as of `process_pool`.

    They are those of the `pool`, or new ones that end with the last result. SIGINT goes to the
    caller only.
    """
    if pool is None:
        with process_pool(n_processes) as pool:
            yield from map_in_processes(function, items, pool=pool)
        return
    with handling((signal.SIGINT,), signal.SIG_IGN):  # which the processes inherit
        jobs = [pool.submit(function, item) for item in items]
    for job in jobs:
        yield job.result()


def _end_with_parent() -> None:
    """End this process when its parent is gone, whatever it does: SIGKILL ends no children."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a process of a pool

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def parallel_sum(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    n_threads: int | None = None,
    on_done: Callable[[Item], None] | None = None,
) -> Result:
    """The sum, by `+`, of the results of the function for at least one item.

    Runs in `n_threads` threads, by default and at most one per core. `on_done` is called with each
    item when it is done, one call at a time.
    """
    import dask.bag  # takes half a second, which `map_in_processes` does not need

    one_call = threading.Lock()

    def call(item: Item) -> Result:
        result = function(item)
        if on_done:
            with one_call:
                on_done(item)
        return result

    total = dask.bag.from_sequence(items, npartitions=len(items)).map(call).fold(add)
    n_workers = min(n_threads or n_cores(), n_cores())
    return total.compute(scheduler="threads", num_workers=n_workers)
