"""A trained model on disk: one head, or an ensemble of them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from features.errors import InputError
from features.system.files import sha256_of
from models.data.packed import PackedFeatures
from models.heads.windows import head_windows
from models.metrics.predict import Prediction, mean_prediction, predict
from models.metrics.smoothing import smooth
from models.runs.checkpoint import CheckpointMeta, load_head, read_meta
from models.runs.ensemble_record import EnsembleConfig, EnsembleRecord, read_record
from models.runs.folder import (
    ENSEMBLE,
    EXPORTED,
    HEAD_FILE,
    RunConfig,
    holds_ensemble,
    read_config,
)


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """The head in a run's folder."""

    run: Path
    meta: CheckpointMeta
    config: RunConfig

    def digest(self) -> str:
        """sha256 of everything that determines the predictions."""
        return sha256_of(self.run / HEAD_FILE)

    def predict(self, packed: PackedFeatures, *, regions: bool = False) -> Prediction:
        """Return valence and arousal of every row, computed on the device of the features.

        With `regions`, also the region posteriors, if the region branch was trained.
        """
        head = load_head(self.run / HEAD_FILE, packed.device)
        size, stride = self.meta.window, self.meta.stride
        windows = head_windows(packed, self.meta.head, size=size, stride=stride)
        regions = regions and self.meta.loss.region_weight > 0
        return smooth(predict(head, packed, windows, regions=regions), packed, self.meta.widths_s)


@dataclass(frozen=True, slots=True)
class TrainedEnsemble:
    """The members in an ensemble's folder, whose mean prediction is smoothed."""

    run: Path
    record: EnsembleRecord
    config: RunConfig
    members: tuple[TrainedHead, ...]

    @property
    def meta(self) -> CheckpointMeta:
        """The metadata of the first member; all members have the same config and inputs."""
        return self.members[0].meta

    def digest(self) -> str:
        """sha256 of everything that determines the predictions; it covers the members' digests."""
        return sha256_of(self.run / ENSEMBLE)

    def predict(self, packed: PackedFeatures, *, regions: bool = False) -> Prediction:
        """Return valence and arousal of every row; region posteriors are not averaged.

        With `regions`, also the band of the members, each smoothed as their mean is.
        """
        members = [member.predict(packed) for member in self.members]
        mean = smooth(mean_prediction(members), packed, self.record.widths_s)
        if not regions:
            return mean
        alike = [smooth(member, packed, self.record.widths_s).va for member in members]
        return replace(mean, band=np.stack([np.min(alike, axis=0), np.max(alike, axis=0)]))

    def caution(self, clip_ids: Iterable[str]) -> tuple[str, ...]:
        """Return a note if some of these clips were trained on."""
        clip_ids = list(clip_ids)
        n_trained = sum(clip_id in self.record.clip_ids for clip_id in clip_ids)
        if not n_trained:
            return ()
        return (
            f"{n_trained} of {len(clip_ids)} clips were trained on (over = {self.record.over}): "
            "this is no score on new people; the out-of-fold mean CCC is "
            f"{self.record.out_of_fold.ccc_mean:.3f}",
        )


TrainedModel = TrainedHead | TrainedEnsemble


def holds_exported(folder: Path) -> bool:
    """Return whether the folder is that of an exported head."""
    return (folder / EXPORTED).is_file()


def open_model(run: Path) -> TrainedModel:
    """Return the model in a folder; raises `InputError` if there is none."""
    if holds_exported(run):
        raise InputError(
            f"{run} holds an exported head, with which only files are predicted: `vaflow predict "
            f"{run} VIDEO... -o OUT`; give the run that it was exported from"
        )
    if not holds_ensemble(run):
        return TrainedHead(run, read_meta(run / HEAD_FILE), read_config(run))
    record, config = read_record(run), read_config(run, EnsembleConfig)
    folders = [run / member.folder for member in record.members]
    members = (TrainedHead(folder, read_meta(folder / HEAD_FILE), config) for folder in folders)
    return TrainedEnsemble(run, record, config, tuple(members))
