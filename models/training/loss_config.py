"""The config of the loss: what a head is trained for."""

from collections.abc import Sequence
from typing import Literal, TypeVar

from pydantic import ConfigDict, Field, model_validator

from features.config import Config
from features.errors import InputError
from models.heads.config import HeadConfig

HeadT = TypeVar("HeadT", bound=HeadConfig)


class LossConfig(Config):
    """Weights and labels of the loss (Jung et al., 2026); see `head_loss`."""

    model_config = ConfigDict(allow_inf_nan=False)

    ccc: Literal["batch", "sequence"] = "batch"
    """The CCC of all rows of a batch together, or the mean CCC of its windows."""
    valence_weight: float = Field(default=1.0, ge=0)
    """Weight of valence in the CCC loss and the squared error."""
    arousal_weight: float = Field(default=1.0, ge=0)
    """Weight of arousal in the CCC loss and the squared error."""
    mse_weight: float = Field(default=0.0, ge=0)
    """Weight of the mean squared error; 0 leaves it out."""
    region_weight: float = Field(default=0.2, ge=0)
    """Weight of the region loss (lambda); 0 leaves it out."""
    region_labels: Literal["soft", "hard"] = "soft"
    """Gaussian weights over the regions, or the nearest region alone."""
    sigma: float = Field(default=0.45, gt=0)
    """Standard deviation of the Gaussian of soft region labels."""

    @model_validator(mode="after")
    def _check_weights(self) -> "LossConfig":
        if not self.valence_weight and not self.arousal_weight:
            raise ValueError("valence_weight and arousal_weight are both 0: give one a weight")
        return self


def head_for_streams(
    head: HeadT, loss: LossConfig, streams: Sequence[str], with_texts: Sequence[str]
) -> HeadT:
    """Return the head with the names of the streams that its config leaves open.

    Without a stream that has texts, a head without a region loss does not have prompts. Raises
    `InputError` if the head does not fit the streams, or cannot be trained with the loss.
    """
    if not with_texts and not loss.region_weight and not head.reads_regions:
        head = head.model_copy(update={"prompts": None})
    try:
        head = head.for_streams(streams, with_texts)
    except ValueError as error:
        raise InputError(f"head.{error}") from None
    check_loss(head, loss)
    return head


def check_loss(head: HeadConfig, loss: LossConfig) -> None:
    """Raises `InputError` if the head cannot be trained with the loss."""
    if head.windows == "causal" and loss.ccc == "sequence":
        raise InputError(
            "head.windows is causal and train.loss.ccc is sequence: a causal window has one "
            "predicted row, and the CCC of one row says nothing; set train.loss.ccc to batch, or "
            "head.windows to dense"
        )
    if loss.region_weight and head.prompts is not None and not head.has_region_logits:
        raise InputError(
            "head.fusion predicts V and A from one stream alone, and the region loss "
            f"(train.loss.region_weight {loss.region_weight:g}) is computed from another one: set "
            "train.loss.region_weight to 0, or head.region_on to fused"
        )
