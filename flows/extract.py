"""The flow `extract-features`: a task per shard of clips, in this process or on Dask workers.

Dask is imported by runs that use it: it takes longer than the rest of this module's own imports.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from features.encoders import AnyEncoderConfig
from features.extraction.dry_run import plan_dry_run, render_dry_run
from features.extraction.face_crops import with_crops
from features.extraction.options import ExtractionOptions
from features.extraction.outcome import ExtractionResult, Outcome
from features.extraction.plan import PlannedExtraction, plan_extraction
from features.extraction.shards import Shard, ShardStream, plan_shards, result_in_store
from features.manifest.manifest import read_manifest
from flows.keys.help import with_help
from flows.keys.signature import keys_of, with_keys
from flows.logs import run_logger
from flows.server.artifacts import publish_extraction
from flows.sigterm import stop_between_clips
from flows.stages import Runner, require_complete
from flows.stages import extract_features as extract_plainly

OnOutcome = Callable[[Outcome], None]

KEYS = keys_of(extract_plainly)
# an empty list was valid in the deployments of earlier versions
KEYS["encoders"] = KEYS["encoders"].replace(annotation=tuple[AnyEncoderConfig, ...])


@task(
    name="extract-shard",
    task_run_name="shard {number} of {n_shards}",
    cache_policy=NO_CACHE,  # the store is the only cache
    persist_result=False,
)
def extract_shard(
    number: int, n_shards: int, extract: Callable[[OnOutcome], ExtractionResult]
) -> ExtractionResult:
    """The result of a shard; logs the outcomes of its clips."""
    log = run_logger()

    def on_outcome(outcome: Outcome) -> None:
        prefix = f"shard {number} of {n_shards}: {outcome.clip} ({outcome.feature_set})"
        fields = {"clip": outcome.clip, "feature_set": outcome.feature_set, "state": outcome.state}
        if outcome.state == "extracted":
            log.info("%s: extracted, %s", prefix, outcome.reason, extra=fields)
        elif outcome.state != "present":
            log.error("%s: %s: %s", prefix, outcome.state, outcome.detail, extra=fields)

    extraction = extract(on_outcome)
    for remark in extraction.remarks:
        log.info(remark)
    return extraction


@flow(name="extract-features", persist_result=False)
@with_help
@with_keys(KEYS.values())
def extract_features(
    manifest: Path,
    runner: Runner,
    dry_run: bool,
    scheduler: str | None,
    workers: int | None,
    **keys: Any,
) -> dict[str, int]:
    """Encode the clips of the manifest that the store lacks, or only report them (`dry_run`).

    Returns the number of clips by outcome, as the store holds them at the end, however tasks
    ended. Raises `Incomplete` after all clips if one failed.
    """
    log = run_logger()
    options = ExtractionOptions(**keys)
    if dry_run:
        estimate = plan_dry_run(manifest, options)
        for line in render_dry_run(estimate):
            log.info(line)
        return dict(estimate.counts)
    started_s = time.monotonic()
    plan = plan_extraction(read_manifest(manifest), options)
    n_workers = 1
    if runner == "dask":
        from flows.dask.cluster import n_workers_of

        n_workers = n_workers_of(scheduler, workers)
    shards = plan_shards(plan, n_workers)
    reported: list[Outcome] = []
    lost: list[str] = []
    with stop_between_clips() as should_continue:
        if shards and runner == "local":
            for result in _extract_here(plan, shards, should_continue):
                reported.extend(result.outcomes)
        elif shards:
            for result in _extract_on_dask(shards, scheduler, workers, should_continue):
                if isinstance(result, Exception):
                    log.error("a shard was lost: %s", result)
                    lost.append(str(result))
                else:
                    reported.extend(result.outcomes)
        extraction = result_in_store(plan, reported, lost, time.monotonic() - started_s)
        extraction = with_crops(extraction, plan.clips, plan.options, should_continue)
        for note in extraction.notes():
            log.info("note: %s", note)
        log.info(extraction.summary())
        publish_extraction(extraction, options.store, manifest)  # also when the run is cancelled
    return dict(require_complete(extraction).counts)


def _extract_here(
    plan: PlannedExtraction, shards: Sequence[Shard], should_continue: Callable[[], bool]
) -> Iterator[ExtractionResult]:
    with closing(ShardStream(plan, shards, should_continue)) as stream:
        for shard in shards:
            extract = partial(stream.extract, shard.number)
            yield extract_shard(shard.number, shard.n_shards, extract)


def _extract_on_dask(
    shards: Sequence[Shard],
    scheduler: str | None,
    workers: int | None,
    should_continue: Callable[[], bool],
) -> Iterator[ExtractionResult | Exception]:
    from distributed import Event
    from prefect_dask.task_runners import DaskTaskRunner

    from flows.dask.cluster import cluster, connected
    from flows.dask.shards import completed_shards, extract_on_worker

    with (
        cluster(scheduler, workers) as address,
        connected(address) as client,
        DaskTaskRunner(address=address) as runner,
    ):
        stop = Event(client=client)
        results = {}
        for shard in shards:
            parameters = {
                "number": shard.number,
                "n_shards": shard.n_shards,
                "extract": partial(extract_on_worker, shard, stop.name),
            }
            future = runner.submit(extract_shard, parameters)
            results[future.wrapped_future] = future.result
        yield from completed_shards(results, stop, should_continue)
