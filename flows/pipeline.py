"""The flow `pipeline`: the three stages in a row."""

from pathlib import Path

from prefect import flow

from features.encoders import AnyEncoderConfig
from features.extraction.options import Count
from features.media.limits import DEFAULT_LIMITS, DecodeLimits
from features.system.devices import DeviceName
from features.timeline import MAX_LENGTH_MISMATCH, LengthMismatch
from flows.extract import extract_features
from flows.key_help import with_help
from flows.score import score_head
from flows.server.artifacts import publish_scored
from flows.stages import feature_sets_of
from flows.train import train_head
from models.heads import AnyHeadConfig
from models.heads.dspl import DsplConfig
from models.training.config import TrainConfig


@flow(name="pipeline", persist_result=False)
@with_help
def pipeline(
    manifest: Path,
    store: str,
    run: Path,
    encoders: tuple[AnyEncoderConfig, ...],
    head: AnyHeadConfig = DsplConfig(),
    train: TrainConfig = TrainConfig(),
    split: str = "val",
    max_length_mismatch: LengthMismatch = MAX_LENGTH_MISMATCH,
    device: DeviceName = "auto",
    batch_size: Count | None = None,
    readers: Count | None = None,
    limits: DecodeLimits = DEFAULT_LIMITS,
    force: bool = False,
) -> dict[str, float | None] | None:
    """Extract, train, score; a clip that fails to extract stops it before training."""
    extract_features(manifest, store, encoders, device, batch_size, readers, limits, force=force)
    sets = feature_sets_of(encoders)
    apart = max_length_mismatch
    train_head(manifest, store, run, head, train, max_length_mismatch=apart, force=force, **sets)
    scores = score_head(run, manifest, store, split, apart, force=force)
    publish_scored(run, split, scores["ccc_mean"] if scores else None, manifest, store)
    return scores
