"""A batch of windows, and the targets of its rows."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

Modality = Literal["visual", "audio"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of rows. Padding is valid in neither modality.

    Both modalities span the same time. In dense windows row t is the same frame in both; causal
    windows have more audio rows than visual rows.
    """

    visual: Float[Tensor, "B T Dv"]
    """Embeddings as the encoder returned them, not normalised; 0 if not valid."""
    visual_valid: Bool[Tensor, "B T"]
    audio: Float[Tensor, "B S Da"]
    audio_valid: Bool[Tensor, "B S"]


@dataclass(frozen=True, slots=True)
class Targets:
    """The labels of the rows that are predicted."""

    va: Float[Tensor, "B P 2"]
    """Valence and arousal; 0 if not valid."""
    valid: Bool[Tensor, "B P"]
