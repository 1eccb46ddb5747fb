"""A split of a manifest as a trained model reads and predicts it."""

from dataclasses import dataclass
from pathlib import Path

from features.canonical_json import canonical_sha256
from features.errors import InputError
from features.manifest.manifest import read_manifest
from features.system.devices import torch_device
from features.timeline import MAX_LENGTH_MISMATCH
from models.data.data_sets import (
    Manifests,
    Stores,
    absolute_manifests,
    data_sets,
)
from models.data.feature_sets import open_sets_of_head, records_digest
from models.data.joined_sets import open_sets_of
from models.data.joined_store import absolute_stores
from models.data.packed import PackedFeatures
from models.data.placement import place_on_device
from models.data.splits import (
    ClipGroups,
    digest_of_labels,
    group_sets,
    mapped_labels,
    subject_by_clip,
)
from models.data.unlabelled import shared_with
from models.metrics.predict import Prediction
from models.runs.code import code_digest
from models.runs.folder import CONFIG
from models.runs.predictor import TrainedHead, TrainedModel, open_model
from models.runs.threads import limit_threads


@dataclass(frozen=True, slots=True)
class RunSplit:
    """The inputs of a scoring, before features are read."""

    run: Path
    name: str
    manifest: Manifests
    store: Stores
    predictor: TrainedModel
    clips: ClipGroups
    """The split is the only group."""
    max_length_mismatch: int

    @property
    def subject_by_clip(self) -> dict[str, str]:
        """The subject of each clip."""
        return subject_by_clip(self.clips.all_clips)

    @property
    def caution(self) -> tuple[str, ...]:
        """Notes on what limits the score of this split."""
        if isinstance(self.predictor, TrainedHead):  # trained on the split named train
            return self._unlabelled_caution()
        return self.predictor.caution(self.clips.ids(self.name))

    def _unlabelled_caution(self) -> tuple[str, ...]:
        """Return a note if unlabelled clips of the training are of these people or videos."""
        train = self.predictor.config.train
        if not train.unlabelled or not isinstance(self.manifest, Path):
            return ()
        clips = self.clips.all_clips
        try:
            extra = read_manifest(train.unlabelled)
        except InputError:
            if not train.transductive:
                return ()
            return (
                f"the head was trained with train.transductive on {train.unlabelled}, which cannot "
                "be read now: these clips may be among its unlabelled ones",
            )
        shared = shared_with(read_manifest(self.manifest), clips, extra, extra.clips)
        if not (n := len(list(shared))):
            return ()
        return (
            f"{n} of {len(clips)} clips are of people or videos that were trained on without "
            "labels (train.unlabelled): this score is transductive, and none on new people",
        )

    def key(self) -> str:
        """Return the sha256 of everything that determines the scores."""
        clip_ids = self.clips.ids(self.name)
        decisive = {
            "head": self.predictor.digest(),
            "code": code_digest(self.predictor.meta.head),
            **{
                stream: records_digest(self.clips.sets, clip_ids, spec)
                for stream, spec in self.clips.sets.specs.items()
            },
            "labels": digest_of_labels(self.clips.labels),
            "max_rows_apart": MAX_LENGTH_MISMATCH,  # constant, so that older scores keep their key
            "subjects": dict(self.subject_by_clip),
        }
        return canonical_sha256(decisive)


def open_split(
    run: Path,
    manifest: Manifests | None,
    store: Stores | None,
    split: str,
    max_length_mismatch: int | None = None,
) -> RunSplit:
    """Open the split as the run's model reads it; None selects the value of the training.

    Raises `SpecMismatch` if the store has other features than the model reads, and `InputError` or
    `StoreError` if something else is missing.
    """
    predictor = open_model(run)
    meta, config = predictor.meta, predictor.config
    manifest = absolute_manifests(manifest or config.manifest)
    store = absolute_stores(store or config.store)
    if max_length_mismatch is None:
        max_length_mismatch = config.max_length_mismatch
    found = data_sets(manifest, store)
    if not found[0].name:
        open_sets_of_head(found[0].store, meta.feature_sets)  # or say what the head was trained on
    sets = open_sets_of(found, meta.feature_sets)
    groups = group_sets(found, sets, [split], labelled=False)
    if (maps := config.train.label_maps) and maps != "match":  # a training writes them as numbers
        groups = mapped_labels(groups, maps, name=found[0].name or found[0].manifest.stem)
    return RunSplit(run, split, manifest, store, predictor, groups, max_length_mismatch)


@dataclass(frozen=True, slots=True)
class PredictedSplit:
    """A split with its features and predictions."""

    source: RunSplit
    packed: PackedFeatures
    """On the device of the training."""
    prediction: Prediction


def read_split(source: RunSplit, *, regions: bool = False) -> PredictedSplit:
    """Predict every row, on the device and with the threads of the training.

    With `regions`, also compute the region posteriors of a single head, or the band of an ensemble.
    """
    train = source.predictor.config.train
    try:
        device = torch_device(train.device)
    except InputError as error:
        raise InputError(f"{error} (it is train.device in {source.run / CONFIG})") from None
    packed = source.clips.load(source.max_length_mismatch)
    packed = place_on_device(packed, device, train.bank_mib)
    with limit_threads(train.threads):
        return PredictedSplit(source, packed, source.predictor.predict(packed, regions=regions))
