"""The flow `train-head`."""

import time
from dataclasses import asdict
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from flows.key_help import with_help
from flows.messages import training_line
from flows.server.artifacts import publish_training
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.stages.train_head import TrainResult
from models.stages.train_head import train_head as train_plainly
from models.training.config import EpochResult, TrainConfig

LOGGED_EPOCHS = 5


@task(name="train", cache_policy=NO_CACHE, persist_result=False)
def train_task(
    manifest: Path,
    store: str,
    run: Path,
    head: AnyHeadConfig,
    train: TrainConfig,
    visual: str | None,
    audio: str | None,
    max_length_mismatch: int,
    force: bool,
) -> TrainResult:
    """Train a head; every fifth epoch is logged."""
    log = get_run_logger()

    def on_epoch(epoch: EpochResult) -> None:
        if (epoch.index + 1) % LOGGED_EPOCHS == 0:
            log.info("epoch %d: val mean CCC %.3f", epoch.index + 1, epoch.ccc_mean)

    return train_plainly(
        manifest=manifest,
        store=store,
        run=run,
        head=head,
        train=train,
        visual=visual,
        audio=audio,
        max_length_mismatch=max_length_mismatch,
        force=force,
        on_epoch=on_epoch,
    )


@flow(name="train-head", persist_result=False)
@with_help
def train_head(
    manifest: Path,
    store: str,
    run: Path,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    visual: str | None = None,
    audio: str | None = None,
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    force: bool = False,
) -> dict[str, float]:
    """Train a head on the store alone; returns the val scores of the epoch that was kept."""
    began = time.monotonic()
    result = train_task(
        manifest, store, run, head, train, visual, audio, max_length_mismatch, force
    )
    for note in result.notes:
        get_run_logger().info("note: %s", note)
    get_run_logger().info("%s, in %.1f s", training_line(result), time.monotonic() - began)
    publish_training(result.run)
    return asdict(result.best)
