"""The flow `score-head`."""

from dataclasses import asdict
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from features.timeline import LengthMismatch
from flows.key_help import with_help
from flows.messages import score_line
from flows.server.artifacts import publish_score
from models.stages.score_head import score_head as score_plainly

score_task = task(name="score", cache_policy=NO_CACHE, persist_result=False)(score_plainly)


@flow(name="score-head", persist_result=False)
@with_help
def score_head(
    run: Path,
    manifest: Path | None = None,
    store: str | None = None,
    split: str = "val",
    max_length_mismatch: LengthMismatch | None = None,
    sample: Path | None = None,
    force: bool = False,
) -> dict[str, float | None] | None:
    """Predict a split and score it; returns the scores, or None where there are no labels."""
    result = score_task(
        run=run,
        manifest=manifest,
        store=store,
        split=split,
        max_length_mismatch=max_length_mismatch,
        sample=sample,
        force=force,
    )
    for note in result.notes:
        get_run_logger().info("note: %s", note)
    get_run_logger().info(score_line(result))
    publish_score(result, manifest, store)
    return asdict(result.score) if result.score else None
