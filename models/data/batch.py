"""A batch of windows, and the targets of its rows."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of rows. Padding is valid in neither modality.

    Both modalities span the same time. In dense windows row t of one is row t of the other;
    causal windows have more rows of sound than of sight.
    """

    visual: Float[Tensor, "B T Dv"]
    """Embeddings as the encoder gave them, not of unit length; 0 where not valid."""
    visual_valid: Bool[Tensor, "B T"]
    audio: Float[Tensor, "B S Da"]
    audio_valid: Bool[Tensor, "B S"]


@dataclass(frozen=True, slots=True)
class Targets:
    """The truth of the rows that are predicted."""

    va: Float[Tensor, "B P 2"]
    """0 where not valid."""
    valid: Bool[Tensor, "B P"]
