"""The flow `extract-features`: a task per shard of clips, on this machine or on Dask workers."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from distributed import Event
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect_dask.task_runners import DaskTaskRunner

from features.clip import ClipIds
from features.encoders import AnyEncoderConfig
from features.extraction.dry_run import plan_dry_run, render_dry_run
from features.extraction.extract import Count
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import ExtractionResult, Outcome
from features.extraction.shards import PlannedExtraction, Shard, ShardStream, plan_shards
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.system.devices import DeviceName
from flows.dask.cluster import cluster, connected, n_workers_of
from flows.dask.shards import OnOutcome, completed_shards, count_in_store, new_stop, on_worker
from flows.key_help import with_help
from flows.server.artifacts import publish_extraction
from flows.sigterm import stop_between_clips
from flows.stages import Runner, require_complete


@task(
    name="extract-shard",
    task_run_name="shard {number} of {n_shards}",
    cache_policy=NO_CACHE,  # the store is the only cache
    persist_result=False,
)
def extract_shard(
    number: int, n_shards: int, extract: Callable[[OnOutcome], ExtractionResult]
) -> ExtractionResult:
    """How the clips of a shard ended; what is extracted is logged with its reason."""
    log = get_run_logger()

    def on_outcome(outcome: Outcome) -> None:
        named = f"shard {number} of {n_shards}: {outcome.clip} ({outcome.feature_set})"
        fields = {"clip": outcome.clip, "feature_set": outcome.feature_set, "state": outcome.state}
        if outcome.state == "extracted":
            log.info("%s: extracted, %s", named, outcome.reason, extra=fields)
        elif outcome.state != "present":
            log.error("%s: %s: %s", named, outcome.state, outcome.detail, extra=fields)

    extraction = extract(on_outcome)
    for line in extraction.remarks:
        log.info(line)
    return extraction


@flow(name="extract-features", persist_result=False)
@with_help
def extract_features(
    manifest: Path,
    store: str,
    encoders: tuple[AnyEncoderConfig, ...],
    device: DeviceName = "auto",
    batch_size: Count | None = None,
    readers: Count | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    only: ClipIds = (),
    failed: bool = False,
    force: bool = False,
    dry_run: bool = False,
    runner: Runner = "local",
    scheduler: str | None = None,
    workers: Count | None = None,
) -> dict[str, int]:
    """Encode what the store lacks of the manifest, or with `dry_run` only tell what that would be.

    Returns how many clips met, or would meet, which end; fails, after all others are done, where
    one failed. What counts is what the store has in the end, not how tasks ended.
    """
    log = get_run_logger()
    if dry_run:
        part = {"only": only, "failed": failed, "force": force}
        found = plan_dry_run(manifest, store, encoders, device=device, limits=limits, **part)
        for line in render_dry_run(found):
            log.info(line)
        return dict(found.counts)
    began = time.monotonic()
    request = ExtractionOptions(store, encoders, device, batch_size, readers, limits, failed, force)
    n_workers = 1 if runner == "local" else n_workers_of(scheduler, workers)
    run = plan_shards(manifest, only, request, n_workers)
    reported: list[Outcome] = []
    lost: list[str] = []
    with stop_between_clips() as on_next:
        if run.shards and runner == "local":
            for found in _here(run, on_next):
                reported.extend(found.outcomes)
        elif run.shards:
            for found in _on_dask(run.shards, scheduler, workers, on_next):
                if isinstance(found, Exception):
                    log.error("a shard was lost: %s", found)
                    lost.append(str(found))
                else:
                    reported.extend(found.outcomes)
        extraction = count_in_store(run, reported, lost, began)
        for note in extraction.notes():
            log.info("note: %s", note)
        log.info(extraction.summary())
        publish_extraction(extraction, store, manifest)  # a run that is cancelled leaves it, too
    return dict(require_complete(extraction).counts)


def _here(run: PlannedExtraction, on_next: Callable[[], bool]) -> Iterator[ExtractionResult]:
    """Shard after shard in this process, each begun while the one before it ends."""
    with closing(ShardStream(run, on_next)) as procession:
        for shard in run.shards:
            extract = partial(procession.extract, shard.number)
            yield extract_shard(shard.number, shard.n_shards, extract)


def _on_dask(
    shards: tuple[Shard, ...],
    scheduler: str | None,
    workers: int | None,
    on_next: Callable[[], bool],
) -> Iterator[ExtractionResult | Exception]:
    """Shards as workers have done them."""
    with (
        cluster(scheduler, workers) as address,
        connected(address) as client,
        DaskTaskRunner(address=address) as runner,
    ):
        stop = Event(new_stop(), client=client)
        results = {}
        for shard in shards:
            given = {
                "number": shard.number,
                "n_shards": shard.n_shards,
                "extract": partial(on_worker, shard, stop.name),
            }
            future = runner.submit(extract_shard, given)
            results[future.wrapped_future] = future.result
        yield from completed_shards(results, stop, on_next)
