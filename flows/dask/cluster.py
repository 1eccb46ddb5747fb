"""Dask workers: those of a running scheduler, or workers on this machine for one run."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from dask import config
from distributed import Client, LocalCluster, Security
from distributed.comm.core import connect

from features.errors import InputError, Unreachable
from features.system.parallel import n_cores

ANSWER_S = 10  # time for a scheduler to answer
WORKER_S = 60  # time for the first worker to connect
CORES_A_WORKER = 4  # on a machine without a GPU, if the number of workers is not given


@contextmanager
def cluster(scheduler: str | None, n_workers: int | None) -> Iterator[str]:
    """The address of a scheduler that has at least one worker.

    Without a `scheduler`, starts one with `n_workers` on this machine, which end with the `with`
    block. Raises `InputError` if `scheduler` is not an address, and `Unreachable` if no scheduler
    answers or it has no worker.
    """
    if scheduler is None:
        with _on_this_machine(n_workers or default_workers()) as address:
            yield address
        return
    with connected(scheduler) as client:
        try:
            client.wait_for_workers(1, timeout=WORKER_S)
        except TimeoutError:
            raise Unreachable(
                f"the Dask scheduler at {scheduler} has had no worker for {WORKER_S} s; start one: "
                f"`dask worker {scheduler} --nthreads 1`"
            ) from None
    yield scheduler


@contextmanager
def connected(scheduler: str) -> Iterator[Client]:
    """A client of a scheduler; raises as `cluster`."""
    try:
        asyncio.run(_check_answers(scheduler))
        client = Client(scheduler, timeout=ANSWER_S, set_as_default=False)
    except ValueError as error:
        raise InputError(
            f"scheduler: {scheduler!r} is not the address of a Dask scheduler ({error}); write it "
            "as tcp://127.0.0.1:8786"
        ) from None
    except OSError:  # includes timeouts
        raise Unreachable(
            f"no Dask scheduler answers at {scheduler} within {ANSWER_S} s; start one with "
            "`dask scheduler`, or leave `scheduler` out: workers then start on this machine"
        ) from None
    with client:
        yield client


async def _check_answers(scheduler: str) -> None:
    """Raise `OSError` if the scheduler does not answer: a `Client` would wait forever.

    (`test_a_scheduler_that_accepts_a_connection_and_never_answers_is_reported`)
    """
    settings = Security().get_connection_args("client")
    connection = connect(scheduler, timeout=ANSWER_S, **settings)
    (await asyncio.wait_for(connection, ANSWER_S)).abort()


def n_workers_of(scheduler: str | None, workers: int | None) -> int:
    """The number of workers of a run: `workers`, or the scheduler's, or the default.

    Raises as `cluster`.
    """
    if workers:
        return workers
    if scheduler is None:
        return default_workers()
    with cluster(scheduler, None) as address, connected(address) as client:
        return len(client.nthreads())  # pyright: ignore[reportArgumentType]


def default_workers() -> int:
    """One worker per GPU of this machine, or per `CORES_A_WORKER` cores if it has none."""
    return torch.cuda.device_count() or max(1, n_cores() // CORES_A_WORKER)


@contextmanager
def _on_this_machine(n_workers: int) -> Iterator[str]:
    """Start workers that share the cores of this machine, and end them with the `with` block."""
    logging.getLogger("distributed").setLevel(logging.ERROR)  # or it logs errors while it closes
    threads = max(1, n_cores() // n_workers)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    shared = {f"distributed.nanny.pre-spawn-environ.{name}": threads for name in names}
    with (
        config.set(shared),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,  # one shard at a time: the encoder uses the cores
            memory_limit=0,  # or Dask kills a worker for loading weights
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            silence_logs=logging.ERROR,
        ) as workers,
    ):
        yield str(workers.scheduler_address)  # pyright: ignore[reportAttributeAccessIssue]
