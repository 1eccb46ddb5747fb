"""A batch of windows, and the targets of its rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Modality = Literal["visual", "audio"]
"""Of a stream: whether its rows come from the pictures or from the sound."""


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """The rows of one stream."""

    values: Float[Tensor, "B T D"]
    """Embeddings as the encoder returned them, not normalised; 0 if not valid."""
    valid: Bool[Tensor, "B T"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of rows. Padding is valid in no stream.

    All streams span the same time. In dense windows row t is the same frame in all of them; causal
    windows have more rows of an audio stream than of a visual one.
    """

    streams: Mapping[str, StreamBatch]

    def __getitem__(self, stream: str) -> StreamBatch:
        """Return one stream."""
        return self.streams[stream]

    @property
    def device(self) -> torch.device:
        """The device of the rows."""
        return next(iter(self.streams.values())).values.device


@dataclass(frozen=True, slots=True)
class Targets:
    """The labels of the rows that are predicted."""

    va: Float[Tensor, "B P 2"]
    """Valence and arousal; 0 if not valid."""
    valid: Bool[Tensor, "B P"]
