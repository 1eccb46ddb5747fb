"""Dask workers: those of a scheduler that runs already, or some on this machine for one run."""

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

ANSWER_S = 10  # that a scheduler may take to answer
WORKER_S = 60  # that the first worker may take to come
CORES_A_WORKER = 4  # where workers share one CPU and nobody says how many there are


@contextmanager
def cluster(scheduler: str | None, n_workers: int | None) -> Iterator[str]:
    """The address of a scheduler that has a worker.

    `InputError` for what is no address, `Unreachable` where none answers.
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
    """A client of a scheduler."""
    try:
        asyncio.run(_greeted(scheduler))
        client = Client(scheduler, timeout=ANSWER_S, set_as_default=False)
    except ValueError as error:
        raise InputError(
            f"scheduler: {scheduler!r} is no address of a Dask scheduler ({error}); it is such as "
            "tcp://127.0.0.1:8786"
        ) from None
    except OSError:  # a time-out is one
        raise Unreachable(
            f"no Dask scheduler answers at {scheduler} within {ANSWER_S} s; start one with "
            "`dask scheduler`, or leave `scheduler` out: workers then start on this machine"
        ) from None
    with client:
        yield client


async def _greeted(scheduler: str) -> None:
    """Raise `OSError` where none greets back: a `Client` waits for that without end."""
    settings = Security().get_connection_args("client")
    greeting = connect(scheduler, timeout=ANSWER_S, **settings)
    (await asyncio.wait_for(greeting, ANSWER_S)).abort()


def n_workers_of(scheduler: str | None, wanted: int | None) -> int:
    """How many workers a run is dealt out to: those of the scheduler that there are, by default.

    Raises as `cluster`.
    """
    if wanted:
        return wanted
    if scheduler is None:
        return default_workers()
    with cluster(scheduler, None) as address, connected(address) as client:
        return len(client.nthreads())  # pyright: ignore[reportArgumentType]


def default_workers() -> int:
    """On this machine: a worker per GPU, or per few cores where there is none."""
    return torch.cuda.device_count() or max(1, n_cores() // CORES_A_WORKER)


@contextmanager
def _on_this_machine(n_workers: int) -> Iterator[str]:
    """Workers on this machine that share its cores and end with the run."""
    logging.getLogger("distributed").setLevel(logging.ERROR)  # it would speak up when it closes
    threads = max(1, n_cores() // n_workers)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    shared = {f"distributed.nanny.pre-spawn-environ.{name}": threads for name in names}
    with (
        config.set(shared),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,  # a shard at a time: the encoder takes the cores
            memory_limit=0,  # a worker that loads weights is not to be killed for it
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            silence_logs=logging.ERROR,
        ) as workers,
    ):
        yield str(workers.scheduler_address)  # pyright: ignore[reportAttributeAccessIssue]
