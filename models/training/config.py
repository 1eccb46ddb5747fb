"""The configuration of a training, and the result of an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from features.config import Config
from features.system.device_name import DeviceName
from models.data.data_sets import LabelMaps
from models.heads.config import HeadConfig
from models.training.loss_config import LossConfig
from models.training.old_keys import NEW_TRAIN_KEYS, complete_train

TrackerName = Literal["tensorboard", "mlflow", "wandb"]


class TrainConfig(Config):
    """Settings of the training. Device and threads change the last digits only."""

    model_config = ConfigDict(allow_inf_nan=False)

    loss: LossConfig = LossConfig()
    """What the head is trained for."""
    epochs: int = Field(default=15, ge=1)
    """Maximum number of epochs."""
    select: Literal["last", "val", "inner"] = "last"
    """The epoch whose weights are kept: the last, or that with the best mean CCC on the val split
    or on training subjects that are held out (inner)."""
    inner_share: float = Field(default=0.2, gt=0, lt=1)
    """Share of the training subjects that are held out if select is inner."""
    smooth: bool = False
    """Smooth predictions over time, with widths that are chosen on the training subjects that
    select: inner holds out."""
    set_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Of several data sets, how often an epoch has the windows of each, by name; 1 if not given."""
    label_maps: LabelMaps = Field(default_factory=dict)
    """Of several data sets, the affine map of the labels of each to the scale of the first, by
    name; match: the map that gives training labels the mean and deviation of those of the first."""
    patience: int | None = Field(default=None, ge=1)
    """Epochs without a better mean CCC after which training stops; null: it never stops early."""
    min_delta: float = Field(default=0.0, ge=0)
    """An epoch is better only if its mean CCC is higher by more than this."""
    batch_size: int = Field(default=16, ge=1)
    """Windows per step."""
    drop_last: bool = False
    """Leave out the last batch of an epoch if it has fewer windows."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate, after the warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up: a cosine decay to 0, or the peak throughout."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Weight decay of AdamW."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps with a rising learning rate."""
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Norm that the gradient of all weights is clipped to; null: no clipping."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial weights, shuffling, dropout and mixup."""
    window: int = Field(default=300, ge=1)
    """Rows per dense window."""
    stride: int = Field(default=200, ge=1)
    """Rows between the starts of dense windows."""
    causal_stride: int = Field(default=10, ge=1)
    """Rows between the targets of causal windows in training; scoring predicts every row."""
    causal_stride_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds between those targets, from causal_start_s on; null: causal_stride rows."""
    causal_start_s: float = Field(default=0.0, ge=0)
    """Seconds at the beginning of a clip without a target of a causal window in training."""
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of the Beta distribution of mixup; 0: no mixup."""
    stream_dropout: float = Field(default=0.0, ge=0, le=1)
    """Probability that a window of training lacks one of its streams, drawn at random."""
    unlabelled: Path | None = None
    """Manifest of clips to train on without labels; their features are in the same store."""
    pseudo_labels: Literal["text", "ensemble"] = "text"
    """Labels of unlabelled clips: of the baseline `text`, or of three heads trained before."""
    pseudo_weight: float = Field(default=0.5, gt=0)
    """Weight of the loss of unlabelled clips."""
    transductive: bool = False
    """Accept unlabelled clips of people of the val and test split; scores mention it."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the head in training; weights, loss and scoring are float32."""
    device: DeviceName = "auto"
    """Device of the training; auto uses a GPU if there is one."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads; None leaves them to torch. One is best for a small head on a busy machine."""
    bank_mib: int | None = Field(default=None, ge=1)
    """Device memory for the rows of the training and val clips; the others are streamed in blocks.

    None: half of the free memory of a GPU; on a CPU the rows are a memory map and take none.
    """
    log_to: tuple[TrackerName, ...] = ()
    """Experiment trackers that also get the numbers of each epoch; each is an extra to install."""

    @model_validator(mode="before")
    @classmethod
    def _accept_config_without_select(cls, fields: object) -> object:
        return complete_train(fields) if isinstance(fields, dict) else fields

    @model_validator(mode="after")
    def _check_together(self) -> "TrainConfig":
        if self.select == "last" and (self.patience is not None or self.min_delta):
            raise ValueError(
                "patience and min_delta stop a training by the score that selects its epoch, and "
                "select is last, which trains all epochs and reads no score: leave them out, or "
                "set select to val or inner"
            )
        if self.smooth and self.select != "inner":
            raise ValueError(
                "smooth chooses widths on training subjects that are held out, and select "
                f"{self.select} holds out none: set select to inner, or smooth to false"
            )
        if self.stride > self.window:
            raise ValueError(
                f"stride ({self.stride}) must be at most window ({self.window}), "
                "or rows are left out"
            )
        return self


GIVEN_WITH = {"select": {"patience", "min_delta"}, "causal_stride": {"causal_stride_s"}}
"""Keys that a preset leaves alone if the first one is given, because they belong to it."""


def preset_train(head: HeadConfig, train: TrainConfig) -> TrainConfig:
    """The config by which the head is trained: the preset's own keys, unless they are given.

    Every stage that trains calls it first. A config that it returned, or that was written in full,
    stays as it is.
    """
    given = set(train.model_fields_set)
    for key in train.model_fields_set & GIVEN_WITH.keys():
        given |= GIVEN_WITH[key]
    own = {key: value for key, value in head.trainer.items() if key not in given}
    return train.model_copy(update=own) if own else train


def train_of_0_1(train: TrainConfig) -> TrainConfig:
    """What version 0.1 made of the keys that are given: it stopped by val, with a patience of 5."""
    before = {**NEW_TRAIN_KEYS, "patience": 5}
    return train.model_copy(
        update={key: value for key, value in before.items() if key not in train.model_fields_set}
    )


@dataclass(frozen=True, slots=True)
class EpochResult:
    """Loss and val scores of one epoch."""

    index: int
    loss: float
    """Mean loss of the steps."""
    ccc_valence: float
    """CCC of the val split by the official protocol, as the next two."""
    ccc_arousal: float
    ccc_mean: float
    ccc_inner: float | None = None
    """Mean CCC of the training subjects that are held out; None unless `select` is inner."""
    loss_valence: float | None = None
    """The parts of the loss, which add up to it. All that follows is None in older runs."""
    loss_arousal: float | None = None
    loss_regions: float | None = None
    """0 without a region loss."""
    loss_unlabelled: float | None = None
    """Of unlabelled clips, all parts together; None if there are none."""
    gradient_norm: float | None = None
    """Mean over the steps of the norm of the gradient of all weights, before it is clipped."""
    gradient_norm_max: float | None = None
    learning_rate: float | None = None
    """Of the last step."""
    ccc_train_valence: float | None = None
    """CCC of the predictions of all steps with their labels, as the head was then: in training
    mode, and with mixed windows if `mixup` mixes them."""
    ccc_train_arousal: float | None = None
    seconds: float | None = field(default=None, compare=False)
    """How long the epoch and its scoring took."""


def kept_epoch(epochs: Sequence[EpochResult], config: TrainConfig) -> EpochResult:
    """The epoch whose weights are kept: the last, or the first that no later one is better than."""
    if config.select == "last":
        return epochs[-1]
    kept = epochs[0]
    for epoch in epochs[1:]:
        if selection_score(epoch, config) > selection_score(kept, config) + config.min_delta:
            kept = epoch
    return kept


def selection_score(epoch: EpochResult, config: TrainConfig) -> float:
    """The mean CCC that the epoch is selected by, if the config does not select the last."""
    if config.select == "val":
        return epoch.ccc_mean
    assert epoch.ccc_inner is not None  # `fit` computes it
    return epoch.ccc_inner


def judged(epoch: EpochResult) -> float:
    """The mean CCC that a training is compared by: of the people it held out, or else of val."""
    return epoch.ccc_mean if epoch.ccc_inner is None else epoch.ccc_inner
