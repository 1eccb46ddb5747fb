"""The configuration of a training, and the result of an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from features.config import Config
from features.system.devices import DeviceName
from models.training.loss_config import LossConfig


class TrainConfig(Config):
    """Settings of the training. Device and threads decide no more than the last digits."""

    model_config = ConfigDict(allow_inf_nan=False)

    loss: LossConfig = LossConfig()
    """What the head is trained for."""
    epochs: int = Field(default=15, ge=1)
    """At most; `patience` may end it before."""
    patience: int = Field(default=5, ge=1)
    """Epochs in a row without a better val mean CCC after which training stops."""
    batch_size: int = Field(default=16, ge=1)
    """Windows per step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """The peak, after the warm-up; a cosine leads from there to 0."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """By which AdamW shrinks all weights, times the learning rate, in a step."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps over which the rate rises."""
    clip_grad_norm: float = Field(default=1.0, gt=0)
    """The longest gradient of all weights together; a longer one is shortened to it."""
    seed: int = Field(default=0, ge=0)
    """Of the first weights, the order of the windows, dropout and mixup."""
    window: int = Field(default=300, ge=1)
    """Rows of a window."""
    stride: int = Field(default=200, ge=1)
    """Rows from one window's start to the next."""
    causal_stride: int = Field(default=10, ge=1)
    """Rows from one target to the next, where windows are causal; scoring predicts every row."""
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of the Beta distribution by which windows are mixed in pairs; 0 mixes none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the head's products; weights, loss and scoring stay in float32. bfloat16 wants a GPU."""
    device: DeviceName = "auto"
    """Where the head is trained: auto takes the GPU where there is one."""
    threads: int | None = Field(default=None, ge=1)
    """Of the CPU; None leaves it to torch. One is best for a small head on a busy machine."""
    bank_mib: int | None = Field(default=None, ge=1)
    """Of the device's memory, for rows of the training and val clips; more are streamed in blocks.

    None: half of what is free on a GPU; on a CPU the memory map on disk, of which nothing is held.
    """

    @model_validator(mode="after")
    def _windows_overlap(self) -> "TrainConfig":
        if self.stride > self.window:
            raise ValueError(
                f"stride ({self.stride}) must be at most window ({self.window}), "
                "or rows are left out"
            )
        return self


@dataclass(frozen=True, slots=True)
class EpochResult:
    """One pass over the training windows, and the score after it."""

    index: int
    loss: float
    """Mean over the steps."""
    ccc_valence: float
    """Of the val split, by the official protocol; so are the next two."""
    ccc_arousal: float
    ccc_mean: float


def best_epoch(epochs: Sequence[EpochResult]) -> EpochResult:
    """The epoch whose weights are kept: the first with the highest val mean CCC."""
    return max(epochs, key=lambda epoch: epoch.ccc_mean)
