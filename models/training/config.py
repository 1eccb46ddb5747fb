"""The configuration of a training, and the result of an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from features.config import Config
from features.system.device_name import DeviceName
from models.training.loss_config import LossConfig


class TrainConfig(Config):
    """Settings of the training. Device and threads change the last digits only."""

    model_config = ConfigDict(allow_inf_nan=False)

    loss: LossConfig = LossConfig()
    """What the head is trained for."""
    epochs: int = Field(default=15, ge=1)
    """Maximum number of epochs."""
    patience: int = Field(default=5, ge=1)
    """Epochs without a better val mean CCC after which training stops."""
    batch_size: int = Field(default=16, ge=1)
    """Windows per step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate, after the warm-up and before the cosine decay to 0."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Weight decay of AdamW."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps with a rising learning rate."""
    clip_grad_norm: float = Field(default=1.0, gt=0)
    """Norm that the gradient of all weights is clipped to."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial weights, shuffling, dropout and mixup."""
    window: int = Field(default=300, ge=1)
    """Rows per dense window."""
    stride: int = Field(default=200, ge=1)
    """Rows between the starts of dense windows."""
    causal_stride: int = Field(default=10, ge=1)
    """Rows between the targets of causal windows in training; scoring predicts every row."""
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of the Beta distribution of mixup; 0: no mixup."""
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
    """Loss and val scores of one epoch."""

    index: int
    loss: float
    """Mean loss of the steps."""
    ccc_valence: float
    """CCC of the val split by the official protocol, as the next two."""
    ccc_arousal: float
    ccc_mean: float


def best_epoch(epochs: Sequence[EpochResult]) -> EpochResult:
    """The first epoch with the highest val mean CCC, whose weights are kept."""
    return max(epochs, key=lambda epoch: epoch.ccc_mean)
