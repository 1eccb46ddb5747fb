"""A split as a head or an ensemble is to see it: the run, the clips, their features and labels."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from features.canonical_json import canonical
from features.clip import Clip
from features.errors import InputError
from features.manifest.labels import Labels
from features.manifest.manifest import read_manifest
from features.store.feature_store import absolute_path
from features.system.devices import torch_device
from features.timeline import MAX_LENGTH_MISMATCH
from models.data.feature_sets import FeatureSets, open_sets_of_head, records_digest
from models.data.packed import PackedFeatures
from models.data.packed_cache import load_packed
from models.data.placement import place_on_device
from models.data.splits import clips_of_split, digest_of_labels, read_all_labels, subject_by_clip
from models.metrics.predict import Prediction
from models.runs.checkpoint import CheckpointMeta
from models.runs.folder import CONFIG, RunConfig
from models.runs.predictor import TrainedModel, open_model


@dataclass(frozen=True, slots=True)
class RunSplit:
    """What a scoring reads, before features are read."""

    run: Path
    name: str
    manifest: Path
    store: str
    predictor: TrainedModel
    clips: tuple[Clip, ...]
    sets: FeatureSets
    labels: dict[str, Labels | None]
    """By clip; None where there are none."""
    max_length_mismatch: int

    @property
    def meta(self) -> CheckpointMeta:
        """What the heads were told."""
        return self.predictor.meta

    @property
    def config(self) -> RunConfig:
        """Of the training."""
        return self.predictor.config

    @property
    def subject_of(self) -> dict[str, str]:
        """Whom each clip shows."""
        return subject_by_clip(self.clips)

    @property
    def caution(self) -> tuple[str, ...]:
        """What a score of this split must be read with."""
        return self.predictor.caution(clip.id for clip in self.clips)

    def key(self) -> str:
        """sha256 of all that decides the scores."""
        clip_ids = [clip.id for clip in self.clips]
        decisive = {
            "head": self.predictor.digest(),
            "visual": records_digest(self.sets, clip_ids, "visual"),
            "audio": records_digest(self.sets, clip_ids, "audio"),
            "labels": digest_of_labels(self.labels),
            "max_rows_apart": MAX_LENGTH_MISMATCH,  # was decisive; so old scores keep their key
            "subjects": dict(self.subject_of),
        }
        return hashlib.sha256(canonical(decisive)).hexdigest()


def open_split(
    run: Path,
    manifest: Path | None,
    store: str | None,
    split: str,
    max_length_mismatch: int | None = None,
) -> RunSplit:
    """The split as the run's head reads it; what is None is as it was in the training.

    `SpecMismatch` where the store's features are others than the head's; `InputError` and
    `StoreError` where something else is missing.
    """
    predictor = open_model(run)
    meta, config = predictor.meta, predictor.config
    manifest = manifest.resolve() if manifest else config.manifest
    store = absolute_path(store) if store else config.store
    listed = read_manifest(manifest)
    clips = clips_of_split(listed, split)
    return RunSplit(
        run=run,
        name=split,
        manifest=manifest,
        store=store,
        predictor=predictor,
        clips=clips,
        sets=open_sets_of_head(store, meta.visual, meta.audio),
        labels=read_all_labels(listed, clips, required=False),
        max_length_mismatch=config.max_length_mismatch
        if max_length_mismatch is None
        else max_length_mismatch,
    )


@dataclass(frozen=True, slots=True)
class PredictedSplit:
    """A split as it was read."""

    source: RunSplit
    bank: PackedFeatures
    """On the device of the training."""
    prediction: Prediction


def read_split(source: RunSplit) -> PredictedSplit:
    """Load features and heads, and predict every row."""
    try:
        device = torch_device(source.config.train.device)
    except InputError as error:
        raise InputError(f"{error} (it is train.device in {source.run / CONFIG})") from None
    bank = load_packed(source.sets, source.labels, source.max_length_mismatch)
    bank = place_on_device(bank, device, source.config.train.bank_mib)
    return PredictedSplit(source, bank, source.predictor.predict(bank))
