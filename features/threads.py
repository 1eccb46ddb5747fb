"""The same function on many things at once, in threads: what it makes of each is added up.

By dask's scheduler, with a graph of one node per thing and a tree of sums above them. So results
are added in an order that neither the number of threads nor their pace decides, and of the results
only those are in memory that wait for their sum.
"""

import threading
from collections.abc import Callable, Sequence
from operator import add
from typing import TypeVar

import dask.bag

from features.processes import n_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def added_up(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    n_threads: int | None = None,
    on_done: Callable[[Item], None] | None = None,
) -> Result:
    """The sum, by `+`, of what the function makes of each item, of which there must be one.

    A thread per core, unless fewer are wanted. `on_done` hears of each item, one at a time.
    """
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
