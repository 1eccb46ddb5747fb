"""The stages extract-features and pipeline as plain functions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from features.clip import ClipIds
from features.encoders import AnyEncoderConfig
from features.errors import Incomplete
from features.extraction import extract
from features.extraction.dry_run import DryRun, plan_dry_run
from features.extraction.options import Count, ExtractionOptions
from features.extraction.outcome import ExtractionResult, Outcome
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.system.devices import DeviceName
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from flows.sigterm import stop_between_clips
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.stages.ablate import Ablation
from models.stages.score_head import ScoreResult, score_head
from models.stages.train_head import TrainResult, train_head
from models.training.config import EpochResult, TrainConfig

Encoders = Annotated[tuple[AnyEncoderConfig, ...], Field(min_length=1)]

Runner = Literal["local", "dask"]
"""Where clips are encoded: in this process, or on Dask workers."""


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """The results of the three stages."""

    extraction: ExtractionResult
    training: TrainResult
    score: ScoreResult


def pipeline(
    manifest: Path,
    store: str,
    run: Path,
    encoders: Encoders,
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    split: str = "val",
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    device: DeviceName = "auto",
    batch_size: Count | None = None,
    readers: Count | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    force: bool = False,
    on_outcome: Callable[[Outcome, int], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
) -> PipelineResult:
    """Extract, train and score; raises `Incomplete` before training if a clip fails."""
    extraction = extract_features(
        manifest,
        store,
        encoders,
        device,
        batch_size,
        readers,
        limits,
        force=force,
        on_outcome=on_outcome,
    )
    assert isinstance(extraction, ExtractionResult)  # no dry run was asked for
    require_complete(extraction)
    sets = feature_sets_of(encoders)
    training = train_head(
        manifest=manifest,
        store=store,
        run=run,
        head=head,
        train=train,
        max_length_mismatch=max_length_mismatch,
        force=force,
        on_epoch=on_epoch,
        **sets,
    )
    score = score_head(
        run=run,
        manifest=manifest,
        store=store,
        split=split,
        max_length_mismatch=max_length_mismatch,
        force=force,
    )
    return PipelineResult(extraction, training, score)


def feature_sets_of(encoders: tuple[AnyEncoderConfig, ...]) -> dict[str, str]:
    """The names of the feature sets of encoders, by modality, as keys of `train-head`.

    A modality with several encoders is left out: `train-head` chooses or refuses.
    """
    names: dict[str, list[str]] = {}
    for encoder in encoders:
        names.setdefault(encoder.modality, []).append(encoder.spec().name)
    return {modality: sets[0] for modality, sets in names.items() if len(sets) == 1}


def require_complete(extraction: ExtractionResult) -> ExtractionResult:
    """The extraction, if no clip failed; else raises `Incomplete` with the failures."""
    if extraction.failed:
        listed = [f"  {o.clip} ({o.feature_set}): {o.detail}" for o in extraction.failed]
        raise Incomplete(f"{extraction.summary()}; these failed:", *listed)
    return extraction


def raise_if_incomplete(result: object) -> None:
    """Raise `Incomplete` if the result of a stage has failures."""
    if isinstance(result, ExtractionResult):
        require_complete(result)
    if isinstance(result, Ablation) and result.failed:
        raise Incomplete(
            f"{len(result.failed)} trainings of the ablation failed; the table of the others is in "
            f"{result.run}:",
            *(f"  {failure}" for failure in result.failed),
        )


def extract_features(
    manifest: Path,
    store: str,
    encoders: Encoders,
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
    on_outcome: Callable[[Outcome, int], None] | None = None,
) -> ExtractionResult | DryRun:
    """Extract the clips of the manifest that the store lacks, or only report them (`dry_run`).

    Runs in this process or on Dask workers. SIGTERM stops it between clips.
    """
    options = ExtractionOptions(
        store, encoders, device, batch_size, readers, limits, only, failed, force
    )
    if dry_run:
        return plan_dry_run(manifest, options)
    with stop_between_clips() as should_continue:
        hooks = {"on_outcome": on_outcome, "should_continue": should_continue}
        if runner == "dask":
            from flows.dask.shards import extract_on_dask

            return extract_on_dask(manifest, options, scheduler=scheduler, workers=workers, **hooks)
        return extract.extract_features(manifest, options, **hooks)
