"""What predicts a split: one head, or an ensemble of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from features.system.files import sha256_of
from models.data.packed import PackedFeatures
from models.data.windows import Windows
from models.heads.base import Head
from models.heads.windows import scoring_windows
from models.metrics.predict import Prediction, mean_prediction, predict
from models.metrics.smoothing import smooth
from models.runs.checkpoint import FILE, CheckpointMeta, load_head, read_meta
from models.runs.ensemble_record import EnsembleConfig, EnsembleRecord, read_record
from models.runs.folder import ENSEMBLE, RunConfig, holds_ensemble, read_config


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """The head in a run's folder."""

    run: Path
    meta: CheckpointMeta
    config: RunConfig

    def digest(self) -> str:
        """sha256 of all that decides its predictions."""
        return sha256_of(self.run / FILE)

    def predict(self, bank: PackedFeatures) -> Prediction:
        """V and A of every row of a bank, on the bank's device."""
        head, windows = self.loaded(bank)
        return predict(head, bank, windows)

    def loaded(self, bank: PackedFeatures) -> tuple[Head, Windows]:
        """The head on the bank's device, and the windows that it predicts the bank by."""
        head = load_head(self.run / FILE, bank.device).head
        return head, smoothing_windows(bank, self.meta)

    def caution(self, clip_ids: Iterable[str]) -> tuple[str, ...]:
        """Nothing: it is told by the name of the split what it was trained on."""
        return ()


@dataclass(frozen=True, slots=True)
class TrainedEnsemble:
    """The members in an ensemble's folder: their mean, smoothed by the ensemble's widths."""

    run: Path
    record: EnsembleRecord
    config: RunConfig
    members: tuple[TrainedHead, ...]

    @property
    def meta(self) -> CheckpointMeta:
        """The first member's: what they were told before the training is the same for all."""
        return self.members[0].meta

    def digest(self) -> str:
        """sha256 of all that decides its predictions: the record names the members by theirs."""
        return sha256_of(self.run / ENSEMBLE)

    def predict(self, bank: PackedFeatures) -> Prediction:
        """V and A of every row of a bank, on the bank's device."""
        mean = mean_prediction([member.predict(bank) for member in self.members])
        return smooth(mean, bank, self.record.widths_s)

    def caution(self, clip_ids: Iterable[str]) -> tuple[str, ...]:
        """A note where these clips were trained on."""
        clip_ids = list(clip_ids)
        known = sum(clip_id in self.record.clip_ids for clip_id in clip_ids)
        if not known:
            return ()
        honest = self.record.out_of_fold
        return (
            f"{known} of {len(clip_ids)} clips were trained on (over = {self.record.over}): this "
            "is no score on new people; the out-of-fold mean CCC is "
            f"{honest.ccc_mean:.3f}",
        )


TrainedModel = TrainedHead | TrainedEnsemble


def open_model(run: Path) -> TrainedModel:
    """What a run's folder holds; `InputError` where that is nothing that predicts."""
    if not holds_ensemble(run):
        return TrainedHead(run, read_meta(run / FILE), read_config(run))
    record, config = read_record(run), read_config(run, EnsembleConfig)
    folders = [run / member.folder for member in record.members]
    members = (TrainedHead(folder, read_meta(folder / FILE), config) for folder in folders)
    return TrainedEnsemble(run, record, config, tuple(members))


def smoothing_windows(bank: PackedFeatures, meta: CheckpointMeta) -> Windows:
    """The windows that a head predicts every row of the bank by."""
    return scoring_windows(bank, meta.head, size=meta.window, stride=meta.stride)
