"""Distance-aware soft prompt learning: the head this project recommends."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.adapter import ResidualAdapter, Standardise
from models.fusion import CrossModalAttention, GatedFusion
from models.heads.base import Batch, Head, HeadConfig, HeadInputs, HeadOutput, Regions
from models.temporal import BiGru

SCALE_INIT = 1 / 0.07  # temperature of CLIP (Radford et al., 2021, sec. 2.5)
SCALE_MAX = 100.0  # where CLIP clamps it


class DsplConfig(HeadConfig):
    """Settings of `DsplHead`."""

    kind: Literal["dspl"] = "dspl"
    width: int = Field(default=256, ge=2)
    """Of every stream after the projections."""
    n_heads: int = Field(default=4, ge=1)
    """Of the cross-modal attention; divides `width`."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    fusion: Literal["attention_gate", "visual", "audio"] = "attention_gate"
    """How V and A are read from the two streams: of both, or of one alone."""
    region_on: Literal["adapted", "frozen"] = "adapted"
    """Which CLIP embedding the region logits are read from; `frozen` is what V and A never see."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "DsplConfig":
        if self.width % self.n_heads or self.width % 2:
            raise ValueError(
                f"width ({self.width}) must be even and a multiple of n_heads ({self.n_heads})"
            )
        return self

    @model_validator(mode="after")
    def _regions_need_sight(self) -> "DsplConfig":
        if self.fusion == "audio" and self.region_weight:
            raise ValueError(
                f"fusion 'audio' reads V and A from the sound alone, and region_weight "
                f"({self.region_weight:g}) is of a loss on the picture: set region_weight to 0"
            )
        return self

    def build(self, inputs: HeadInputs) -> "DsplHead":
        """The head, its weights drawn from torch's generator."""
        return DsplHead(self, inputs)


class DsplHead(Head):
    """Adapter, BiGRU per modality, image asks audio, gate, V and A per row (Jung et al., 2026).

    One residual adapter on the CLIP embedding feeds both the temporal branch and the region
    logits, so the region loss shapes what V and A are read from. With `fusion` `visual` or
    `audio` the stream of that name goes to the 2-layer head as it is.

        visual -> adapter -+-> BiGRU -> attention -> gate -> 2-layer head -> V, A
                           |               ^          ^
        audio -------------|---> BiGRU ----+----------+
                           +-> scale * cos(., prototypes) -> region logits
    """

    def __init__(self, config: DsplConfig, inputs: HeadInputs) -> None:
        super().__init__()
        width = config.width
        self.region_on = config.region_on
        self.fusion = config.fusion
        self.standard_visual = Standardise(inputs.visual)
        self.standard_audio = Standardise(inputs.audio)
        self.adapter = ResidualAdapter(len(inputs.visual.mean))
        if self.fusion != "audio":
            self.visual = BiGru(len(inputs.visual.mean), width)
        if self.fusion != "visual":
            self.audio = BiGru(len(inputs.audio.mean), width)
        if self.fusion == "attention_gate":
            self.attention = CrossModalAttention(width, config.n_heads)
            self.gate = GatedFusion(width, config.dropout)
        self.va = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(width // 2, 2),
        )
        self.bank = inputs.bank(config.prompts)
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE_INIT)))

    def prototypes(self) -> Float[Tensor, "R D"]:
        """Unit text features of the regions under the current context."""
        return self.bank()

    def forward(self, batch: Batch, prototypes: Float[Tensor, "R D"] | None = None) -> HeadOutput:
        """V and A of every row, and region logits where prototypes are given."""
        adapted = self.adapter(self.standard_visual(batch.visual))  # (B, T, Dv)
        regions = None
        if prototypes is not None:
            on = batch.visual if self.region_on == "frozen" else self.standard_visual.back(adapted)
            regions = Regions(self.region_logits(on, prototypes), batch.visual_valid)
        return HeadOutput(self.va(self._fused(adapted, batch)), regions)

    def _fused(self, adapted: Float[Tensor, "B T Dv"], batch: Batch) -> Float[Tensor, "B T W"]:
        """The stream that V and A are read from."""
        if self.fusion == "visual":
            return self.visual(adapted, batch.visual_valid)
        audio = self.audio(self.standard_audio(batch.audio), batch.audio_valid)
        if self.fusion == "audio":
            return audio
        image = self.visual(adapted, batch.visual_valid)
        asked = self.attention(image, audio, batch.audio_valid)
        return self.gate(asked, audio, batch.visual_valid, batch.audio_valid)

    def region_logits(
        self, embedding: Float[Tensor, "B T Dv"], prototypes: Float[Tensor, "R Dv"]
    ) -> Float[Tensor, "B T R"]:
        """Scaled cosine between each row's embedding and each prototype."""
        scale = self.log_scale.exp().clamp(max=SCALE_MAX)
        return scale * F.normalize(embedding, dim=-1) @ prototypes.T
