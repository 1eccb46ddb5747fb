"""What a head of the method can be made of: every difference between presets is one switch."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.heads.base import HeadConfig
from models.nn.region_logits import LinkName
from models.nn.stream_fusion import FusionName, Modality, TemporalName
from models.nn.transformer import Positions


class DsplOptions(HeadConfig):
    """What a `DsplHead` can be made of. The defaults are those of `dspl`."""

    width: int = Field(default=256, ge=2)
    """Of every stream after the projections."""
    n_heads: int = Field(default=4, ge=1)
    """Of every attention; divides `width`."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the numbers inside that a training step leaves out."""
    inputs: Literal["standardised", "raw"] = "standardised"
    """Embeddings at mean 0 and deviation 1 over the training rows, or as the encoders gave them."""
    adapter: Literal["residual", "none"] = "residual"
    """A learned correction of the CLIP embedding, before all that reads it."""
    bottleneck: Annotated[int, Field(ge=1)] | None = None
    """Numbers per row that each temporal branch reads, a linear map of the embedding; null: all."""
    temporal: TemporalName = "gru"
    """What puts the neighbouring rows into a row."""
    positions: Positions = "rotary"
    """How the temporal transformer knows the place of a row."""
    fusion: FusionName = "attention_gate"
    """How V and A are read from the two streams: of both, or of one alone."""
    asks: Literal["image", "audio", "both"] = "image"
    """Which stream asks the other in the attention."""
    gate_partner: Modality = "audio"
    """What the gate weighs the image against."""
    skip_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout of a linear reading of V and A beside the network; null: there is none."""
    skip_spans: tuple[Annotated[int, Field(ge=2)], ...] = (25, 100)
    """Rows whose means the linear reading also has."""
    region_on: Literal["adapted", "temporal", "fused", "frozen"] = "adapted"
    """What the region logits are read from; `frozen` is the CLIP embedding before the adapter."""
    logit_scale: Annotated[float, Field(gt=0)] | None = None
    """Factor of the cosines; null: learned, from 1/0.07 and at most 100."""
    region_link: LinkName = "none"
    """What V and A are told of the regions: their probabilities, or where these balance."""
    squash: Literal["none", "tanh"] = "none"
    """What keeps V and A in [-1, 1] beside the clamp of scoring."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "DsplOptions":
        if self.width % self.n_heads or self.width % 2:
            raise ValueError(
                f"width ({self.width}) must be even and a multiple of n_heads ({self.n_heads})"
            )
        if self.temporal == "transformer" and self.positions == "rotary":
            each = self.width // self.n_heads
            if each % 2:
                raise ValueError(
                    f"rotary positions need heads of even width, and {self.width} / {self.n_heads} "
                    f"is {each}: change width or n_heads, or set positions to learned"
                )
        return self

    @model_validator(mode="after")
    def _regions_need_sight(self) -> "DsplOptions":
        wanted = self.region_weight or self.region_link != "none"
        if self.fusion == "audio" and self.region_on != "fused" and wanted:
            raise ValueError(
                f"fusion 'audio' reads V and A from the sound alone, and the regions (region_weight"
                f" {self.region_weight:g}, region_link {self.region_link!r}) are read from the "
                "picture: set region_weight to 0 and region_link to none, or region_on to fused"
            )
        if self.fusion == "audio" and self.region_on == "temporal":
            raise ValueError(
                "region_on 'temporal' is the stream of the picture, and fusion 'audio' has none: "
                "set region_on to fused"
            )
        return self

    @model_validator(mode="after")
    def _both_are_read(self) -> "DsplOptions":
        if self.fusion == "gate" and self.gate_partner == "image":
            raise ValueError(
                "fusion 'gate' with gate_partner 'image' never reads the sound: set gate_partner "
                "to audio, or fusion to attention_gate or visual"
            )
        return self
