"""What a head eats and gives, and what every head's config has."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from models.data.batch import Batch
from models.data.statistics import Statistics
from models.regions.grid import NINE, Grid
from models.regions.prompts import AnyPrompts, CoopPrompts, Prototypes

UNFREEZING = {"finetune", "fine_tune", "lora", "train_encoder", "unfreeze"}
"""Keys by which other projects ask for a training of the encoders."""


@dataclass(frozen=True, slots=True)
class Regions:
    """What a head says of the regions."""

    logits: Float[Tensor, "B P R"]
    valid: Bool[Tensor, "B P"]
    """False where the logits were read from nothing."""


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """One prediction per row of a dense window (P = T), or one per causal window (P = 1)."""

    va: Float[Tensor, "B P 2"]
    """Valence, arousal; not clamped."""
    regions: Regions | None
    """None where no prototypes were given, or the head has no region branch."""

    def in_float32(self) -> "HeadOutput":
        """The same in float32, as losses are summed, whatever precision it was computed in."""
        regions = self.regions and Regions(self.regions.logits.float(), self.regions.valid)
        return HeadOutput(self.va.float(), regions)


@dataclass(frozen=True, slots=True)
class HeadInputs:
    """What a head must know of its inputs to be built."""

    visual: Statistics
    audio: Statistics
    bank: Callable[[AnyPrompts], Prototypes]
    """Gives the prompt bank that a config describes."""
    grid: Grid = NINE
    """The regions that the prompts are of."""


class Head(nn.Module, ABC):
    """Valence and arousal of a window, per row or at its end."""

    @abstractmethod
    def prototypes(self) -> Float[Tensor, "R D"] | None:
        """Unit text features of the regions, with gradient; None without a region branch.

        Apart from `forward`, so that a step runs the text tower once, and inference never.
        """

    @property
    def reads_regions(self) -> bool:
        """Whether V and A are told of the regions, so that they cannot do without prototypes."""
        return False

    @abstractmethod
    def forward(self, batch: Batch, prototypes: Float[Tensor, "R D"] | None = None) -> HeadOutput:
        """Predictions, and region logits against the given prototypes."""


class HeadConfig(BaseModel):
    """Settings that every head has: how it is trained on, whatever it is made of."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    windows: Literal["dense", "causal"] = "dense"
    """Every row of a span is predicted, or one row from the ten seconds that end with it."""
    ccc: Literal["batch", "sequence"] = "batch"
    """The CCC in the loss: over the rows of a batch together, or of each window by itself."""
    valence_weight: float = Field(default=1.0, ge=0)
    """Of the CCC loss on V, and of its squared error."""
    arousal_weight: float = Field(default=1.0, ge=0)
    """Of the CCC loss on A, and of its squared error."""
    mse_weight: float = Field(default=0.0, ge=0)
    """Of a mean squared error beside the CCC losses; 0 leaves it out."""
    region_weight: float = Field(default=0.2, ge=0)
    """Lambda: weight of the region loss beside the CCC losses; 0 leaves it out."""
    region_labels: Literal["soft", "hard"] = "soft"
    """Shared among regions by distance, or all to the nearest."""
    sigma: float = Field(default=0.45, gt=0)
    """Width of the Gaussian that softens the region labels."""
    prompts: AnyPrompts = CoopPrompts()
    """What the regions are told by."""

    @model_validator(mode="before")
    @classmethod
    def _encoders_stay_frozen(cls, fields: object) -> object:
        if isinstance(fields, dict) and (asked := sorted(UNFREEZING & fields.keys())):
            raise ValueError(
                f"{asked[0]} would train an encoder along, and heads are trained on features that "
                "were cached once: leave it out, and learn prompts or the adapter instead"
            )
        return fields

    @model_validator(mode="after")
    def _sequences_have_rows(self) -> "HeadConfig":
        if self.windows == "causal" and self.ccc == "sequence":
            raise ValueError(
                "a causal window has one predicted row, and the CCC of one row says nothing: "
                "set ccc to batch, or windows to dense"
            )
        return self

    @model_validator(mode="after")
    def _something_is_learned(self) -> "HeadConfig":
        if not self.valence_weight and not self.arousal_weight:
            raise ValueError("valence_weight and arousal_weight are both 0: give one a weight")
        return self

    @property
    def may_be_idle(self) -> bool:
        """Whether a region loss that changes neither V nor A is what is wanted."""
        return False
