"""The flow `train-ensemble`."""

from dataclasses import asdict
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from flows.key_help import with_help
from flows.messages import ensemble_line
from flows.server.artifacts import publish_training
from models.data.folds import Folds, Over
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.stages.train_ensemble import train_ensemble as train_plainly
from models.training.config import TrainConfig

train_task = task(name="train", cache_policy=NO_CACHE, persist_result=False)(train_plainly)


@flow(name="train-ensemble", persist_result=False)
@with_help
def train_ensemble(
    manifest: Path,
    store: str,
    run: Path,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    folds: Folds = 5,
    over: Over = "train+val",
    visual: str | None = None,
    audio: str | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    force: bool = False,
) -> dict[str, float | None]:
    """Train a head per fold of people on the store alone; returns the out-of-fold scores."""
    result = train_task(
        manifest=manifest,
        store=store,
        run=run,
        head=head,
        train=train,
        folds=folds,
        over=over,
        visual=visual,
        audio=audio,
        max_length_mismatch=max_length_mismatch,
        force=force,
    )
    for note in result.notes:
        get_run_logger().info("note: %s", note)
    get_run_logger().info(ensemble_line(result))
    publish_training(result.run)
    return asdict(result.ensemble.out_of_fold)
