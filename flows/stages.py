"""The stages extract-features and pipeline as plain functions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from features.clip import ClipIds
from features.encoders import AnyEncoderConfig
from features.errors import Incomplete
from features.extraction import extract
from features.extraction.dry_run import DryRun, plan_dry_run
from features.extraction.options import AnySetConfig, Count, ExtractionOptions, FramesOf
from features.extraction.outcome import ExtractionResult, Outcome
from features.extraction.plan import resolve_frames
from features.manifest.manifest import read_manifest
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.system.devices import DeviceName
from flows.keys.signature import keys_for, keys_of, with_keys
from flows.sigterm import stop_between_clips
from models.data.feature_sets import name_streams
from models.data.stream_names import Streams
from models.stages.predict import PredictResult
from models.stages.score_head import ScoreResult, score_head
from models.stages.train_head import TrainResult, train_head
from models.stages.trials import Comparison
from models.training.config import EpochResult
from models.training.pace import TrainingStep

Encoders = Annotated[tuple[AnyEncoderConfig, ...], Field(min_length=1)]

Runner = Literal["local", "dask"]
"""Where clips are encoded: in this process, or on Dask workers."""


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """The results of the three stages."""

    extraction: ExtractionResult
    training: TrainResult
    score: ScoreResult


def feature_sets_of(
    manifest: Path, encoders: tuple[AnySetConfig, ...], frames: FramesOf
) -> Streams:
    """The names of the feature sets that an extraction makes, as `streams` of `train-head`."""
    if frames == "faces" and any(encoder.modality == "visual" for encoder in encoders):
        options = ExtractionOptions("", encoders, frames=frames)
        encoders = resolve_frames(read_manifest(manifest), options).encoders
    specs = (encoder.spec() for encoder in encoders if encoder.modality != "faces")
    return {stream: spec.name for stream, spec in name_streams(specs).items()}


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
    if isinstance(result, PredictResult) and result.failed:
        failures = (f"  {each.name}: {each.problem}" for each in result.failed)
        raise Incomplete(f"{result.summary()}; these failed:", *failures, *result.remarks())
    if isinstance(result, Comparison) and result.failed:
        raise Incomplete(
            f"{len(result.failed)} trainings of the {result.file.replace('_', ' ')} failed; the "
            f"table of the others is in {result.run}:",
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
    frames: FramesOf = "faces",
    crops: Path | None = None,
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
        store, encoders, device, batch_size, readers, limits, only, failed, force, frames, crops
    )
    if dry_run:
        return plan_dry_run(manifest, options)
    with stop_between_clips() as should_continue:
        hooks = {"on_outcome": on_outcome, "should_continue": should_continue}
        if runner == "dask":
            from flows.dask.shards import extract_on_dask

            return extract_on_dask(manifest, options, scheduler=scheduler, workers=workers, **hooks)
        return extract.extract_features(manifest, options, **hooks)


KEYS_BY_STAGE = {**keys_of(score_head), **keys_of(train_head), **keys_of(extract_features)}
PIPELINE_KEYS = (
    "manifest",
    "store",
    "run",
    "encoders",
    "head",
    "train",
    "split",
    "max_length_mismatch",
    "device",
    "batch_size",
    "readers",
    "limits",
    "force",
    "frames",
    "crops",
)


@with_keys(KEYS_BY_STAGE[name] for name in PIPELINE_KEYS)
def pipeline(
    *,
    on_outcome: Callable[[Outcome, int], None] | None = None,
    on_epoch: Callable[[EpochResult], None] | None = None,
    on_training_step: Callable[[TrainingStep], None] | None = None,
    **keys: Any,
) -> PipelineResult:
    """Extract, train and score; raises `Incomplete` before training if a clip fails.

    Takes the keys of `PIPELINE_KEYS`; each has the type and default of the first stage with it.
    """
    extraction = extract_features(**keys_for(extract_features, keys), on_outcome=on_outcome)
    assert isinstance(extraction, ExtractionResult)  # no dry run was asked for
    require_complete(extraction)
    streams = feature_sets_of(keys["manifest"], keys["encoders"], keys["frames"])
    training = train_head(
        **keys_for(train_head, keys),
        streams=streams,
        on_epoch=on_epoch,
        on_training_step=on_training_step,
    )
    score = score_head(**keys_for(score_head, keys))
    return PipelineResult(extraction, training, score)
