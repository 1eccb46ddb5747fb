"""What a head eats and gives, and what every head's config has."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.adapter import Statistics
from models.prompts import AnyPrompts, CoopPrompts, PromptBank


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of rows. Padding is valid in neither modality."""

    visual: Float[Tensor, "B T Dv"]
    """Embeddings as the encoder gave them, not of unit length; 0 where not valid."""
    visual_valid: Bool[Tensor, "B T"]
    audio: Float[Tensor, "B T Da"]
    audio_valid: Bool[Tensor, "B T"]


@dataclass(frozen=True, slots=True)
class Regions:
    """What a head says of the nine regions."""

    logits: Float[Tensor, "B T R"]
    valid: Bool[Tensor, "B T"]
    """False where the logits were read from nothing."""


@dataclass(frozen=True, slots=True)
class HeadOutput:
    """One prediction per row."""

    va: Float[Tensor, "B T 2"]
    """Valence, arousal; not clamped."""
    regions: Regions | None
    """None where no prototypes were given, or the head has no region branch."""


@dataclass(frozen=True, slots=True)
class HeadInputs:
    """What a head must know of its inputs to be built."""

    visual: Statistics
    audio: Statistics
    bank: Callable[[AnyPrompts], PromptBank]
    """Gives the prompt bank that a config describes."""


class Head(nn.Module, ABC):
    """Valence and arousal of every row of a window."""

    @abstractmethod
    def prototypes(self) -> Float[Tensor, "R D"] | None:
        """Unit text features of the regions, with gradient; None without a region branch.

        Apart from `forward`, so that a step runs the text tower once, and inference never.
        """

    @abstractmethod
    def forward(self, batch: Batch, prototypes: Float[Tensor, "R D"] | None = None) -> HeadOutput:
        """Predictions, and region logits against the given prototypes."""


class HeadConfig(BaseModel):
    """Settings that every head has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sigma: float = Field(default=0.45, gt=0)
    """Width of the Gaussian that softens the region labels."""
    region_weight: float = Field(default=0.2, ge=0)
    """Lambda: weight of the region loss beside the CCC losses; 0 leaves it out."""
    prompts: AnyPrompts = CoopPrompts()
    """What the regions are told by."""
