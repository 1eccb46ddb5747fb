"""The flow `baselines`."""

from dataclasses import asdict
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from flows.key_help import with_help
from flows.messages import baseline_name
from models.stages.baselines import BASELINES, Baselines
from models.stages.baselines import score_baselines as score_plainly

baselines_task = task(name="baselines", cache_policy=NO_CACHE, persist_result=False)(score_plainly)


@flow(name="baselines", persist_result=False)
@with_help
def score_baselines(
    manifest: Path,
    store: str,
    baselines: Baselines = BASELINES,
    visual: str | None = None,
    audio: str | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    output: Path | None = None,
) -> list[dict[str, float | None]]:
    """Learn each baseline on the train split; returns their scores on the val split."""
    result = baselines_task(
        manifest=manifest,
        store=store,
        baselines=baselines,
        visual=visual,
        audio=audio,
        max_length_mismatch=max_length_mismatch,
        output=output,
    )
    log = get_run_logger()
    for note in result.notes:
        log.info("note: %s", note)
    for each in result.scores:
        name, modalities = baseline_name(each.baseline), ", ".join(each.baseline.modalities)
        log.info("%s of %s: val mean CCC %.3f", name, modalities, each.score.ccc_mean)
    return [asdict(each.score) for each in result.scores]
