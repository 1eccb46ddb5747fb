"""The flow `ablate`."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from flows.key_help import with_help
from flows.messages import ablation_line
from flows.stages import raise_if_incomplete
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.stages.ablate import Seeds, Workers
from models.stages.ablate import ablate as ablate_plainly
from models.training.config import TrainConfig

ablate_task = task(name="ablate", cache_policy=NO_CACHE, persist_result=False)(ablate_plainly)


@flow(name="ablate", persist_result=False)
@with_help
def ablate(
    manifest: Path,
    store: str,
    run: Path,
    variants: str = "default",
    seeds: Seeds = 5,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    visual: str | None = None,
    audio: str | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    workers: Workers | None = None,
) -> list[dict[str, str | float | None]]:
    """Train every row over several seeds; returns the table. Failed where a training failed."""
    result = ablate_task(
        manifest=manifest,
        store=store,
        run=run,
        variants=variants,
        seeds=seeds,
        head=head,
        train=train,
        visual=visual,
        audio=audio,
        max_length_mismatch=max_length_mismatch,
        workers=workers,
    )
    log = get_run_logger()
    for note in result.notes:
        log.info("note: %s", note)
    log.info("%s", ablation_line(result))
    raise_if_incomplete(result)
    return [
        {
            "group": line.group,
            "row": line.row,
            "ccc_mean": line.ccc_mean,
            "to_default": line.difference,
        }
        for line in result.lines
    ]
