"""Shards of an extraction on Dask workers, which may join and die while it runs."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from distributed import Event, Future, get_client

from features.errors import VaflowError
from features.extraction.face_crops import with_crops
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import ExtractionResult, Outcome
from features.extraction.plan import plan_extraction
from features.extraction.shards import (
    Shard,
    plan_shards,
    result_in_store,
    runtime_of_this_process,
)
from features.manifest.manifest import read_manifest
from flows.dask.cluster import cluster, connected, n_workers_of

POLL_S = 0.1
ONE_AT_A_TIME = threading.Lock()  # a worker may have been started with several threads

OnOutcome = Callable[[Outcome], None]


def extract_on_dask(
    manifest: Path,
    options: ExtractionOptions,
    *,
    scheduler: str | None,
    workers: int | None,
    on_outcome: Callable[[Outcome, int], None] | None = None,
    should_continue: Callable[[], bool] = lambda: True,
) -> ExtractionResult:
    """Extract as `extract_features` does, in shards on Dask workers.

    `on_outcome` is called when a shard ends. Raises as `cluster`.
    """
    started_s = time.monotonic()
    plan = plan_extraction(read_manifest(manifest), options)
    shards = plan_shards(plan, n_workers_of(scheduler, workers))

    def report(outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if on_outcome:
                on_outcome(outcome, plan.n_outcomes)

    report(plan.outcomes)
    reported: list[Outcome] = []
    lost: list[str] = []
    if shards:
        with cluster(scheduler, workers) as address, connected(address) as client:
            stop = Event(client=client)
            futures = [
                client.submit(extract_on_worker, shard, stop.name, pure=False) for shard in shards
            ]
            results = {future: future.result for future in futures}
            for result in completed_shards(results, stop, should_continue):
                if isinstance(result, Exception):
                    lost.append(str(result))
                else:
                    report(result.outcomes)
                    reported.extend(result.outcomes)
    extraction = result_in_store(plan, reported, lost, time.monotonic() - started_s)
    return with_crops(extraction, plan.clips, plan.options, should_continue)


def extract_on_worker(
    shard: Shard, stop_name: str, on_outcome: OnOutcome = lambda _: None
) -> ExtractionResult:
    """The result of a shard, extracted in a worker process, which loads encoders once."""
    stop = Event(stop_name, client=get_client())
    with ONE_AT_A_TIME:
        runtime = runtime_of_this_process(shard.options.device)
        return shard.extract(runtime, on_outcome, lambda: not stop.is_set())


def completed_shards(
    results: Mapping[Future, Callable[[], ExtractionResult]],
    stop: Event,
    should_continue: Callable[[], bool],
) -> Iterator[ExtractionResult | Exception]:
    """Yield the result of each shard when it ends, or the error by which it was lost.

    Sets `stop` when `should_continue` returns False. Raises an error that concerns every shard,
    such as `WeightsError`.
    """
    pending = set(results)
    while pending:
        if not should_continue():
            stop.set()
        done = {future for future in pending if future.done()}
        pending -= done
        for future in done:
            try:
                yield results[future]()
            except VaflowError:
                stop.set()
                raise
            except Exception as error:  # of any kind: a worker died, or runs another version
                yield error
        if not done:
            time.sleep(POLL_S)
