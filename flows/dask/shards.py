"""A run of extract-features in shards on Dask workers, that may die and come while it lasts."""

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from distributed import Event, Future, get_client

from features.errors import VaflowError
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import ExtractionResult, Outcome
from features.extraction.shards import (
    PlannedExtraction,
    Shard,
    plan_shards,
    runtime_of_this_process,
)
from flows.dask.cluster import cluster, connected, n_workers_of

POLL_S = 0.1
ONE_AT_A_TIME = threading.Lock()  # in a worker that was started with several threads

OnOutcome = Callable[[Outcome], None]


def extract_on_dask(
    manifest: Path,
    request: ExtractionOptions,
    *,
    only: tuple[str, ...],
    scheduler: str | None,
    workers: int | None,
    on_outcome: Callable[[Outcome, int], None] | None,
    on_next: Callable[[], bool],
) -> ExtractionResult:
    """Bring the store up to the manifest as `extract_features` does, shard by shard."""
    began = time.monotonic()
    run = plan_shards(manifest, only, request, n_workers_of(scheduler, workers))
    settled = [outcome for each in run.plans for outcome in each.settled]
    n_all = len(settled) + sum(len(each.jobs) for each in run.plans)

    def say(outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if on_outcome:
                on_outcome(outcome, n_all)

    say(settled)
    reported: list[Outcome] = []
    lost: list[str] = []
    if run.shards:
        with cluster(scheduler, workers) as address, connected(address) as client:
            stop = Event(new_stop(), client=client)
            futures = {
                client.submit(on_worker, shard, stop.name, pure=False): shard
                for shard in run.shards
            }
            results = {future: future.result for future in futures}
            for found in completed_shards(results, stop, on_next):
                if isinstance(found, Exception):
                    lost.append(str(found))
                else:
                    say(found.outcomes)
                    reported.extend(found.outcomes)
    return count_in_store(run, reported, lost, began)


def on_worker(shard: Shard, stop: str, on_outcome: OnOutcome = lambda _: None) -> ExtractionResult:
    """How the clips of a shard ended, in the process of a worker; it loads encoders once."""
    told = Event(stop, client=get_client())
    with ONE_AT_A_TIME:
        station = runtime_of_this_process(shard.request.device)
        return shard.extract(station, on_outcome, lambda: not told.is_set())


def new_stop() -> str:
    """A name for the event that tells the workers of a run to begin no further clip."""
    return f"vaflow-stop-{uuid.uuid4().hex}"


def completed_shards(
    results: Mapping[Future, Callable[[], ExtractionResult]],
    stop: Event,
    on_next: Callable[[], bool],
) -> Iterator[ExtractionResult | Exception]:
    """What each shard gives as it ends, or what it was lost by; workers are told where to stop.

    An error that is the user's, such as weights that do not fit, is raised.
    """
    pending = set(results)
    while pending:
        if not on_next():
            stop.set()
        done = {future for future in pending if future.done()}
        pending -= done
        for future in done:
            try:
                yield results[future]()
            except VaflowError:
                stop.set()
                raise
            except Exception as error:  # of any kind: a worker died, or has another vaflow
                yield error
        if not done:
            time.sleep(POLL_S)


def count_in_store(
    run: PlannedExtraction, reported: list[Outcome], lost: list[str], began_s: float
) -> ExtractionResult:
    """How the run ended, by what the store has now."""
    why = f"its shard was lost ({lost[0]})" if lost else "it was not begun, for the run was stopped"
    outcomes = run.outcomes(reported, f"{why}; run the same again")
    return ExtractionResult(outcomes, time.monotonic() - began_s)
