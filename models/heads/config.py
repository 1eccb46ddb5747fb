"""The configs of heads: what a network is made of. Imports no torch, so that configs load fast."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.nn.kinds import (
    AttentionInit,
    Fusion,
    Modality,
    Positions,
    QueryModality,
    RegionLink,
    Temporal,
)
from models.regions.prompts import AnyPrompts, CoopPrompts

if TYPE_CHECKING:
    from models.heads.base import Head, HeadInputs
    from models.heads.network import DsplHead

FINETUNING_KEYS = {"finetune", "fine_tune", "lora", "train_encoder", "unfreeze"}
"""Keys by which other projects ask for training the encoders."""


class HeadConfig(BaseModel, ABC):
    """What the config of every head has."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    allow_ineffective_region_loss: ClassVar[bool] = False
    """Whether the head may be trained with a region loss that changes neither V nor A."""
    trainer: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """The preset's own keys of `train`, which `preset_train` sets unless they are given."""

    windows: Literal["dense", "causal"] = "dense"
    """Predict every row of a window, or the last row of the ten seconds before it."""
    prompts: AnyPrompts = CoopPrompts()
    """The texts that describe the regions, and whether their context is learned."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_finetuning(cls, fields: object) -> object:
        if isinstance(fields, dict) and (given := sorted(FINETUNING_KEYS & fields.keys())):
            raise ValueError(
                f"{given[0]} would train an encoder along, and heads are trained on features that "
                "were cached once: leave it out, and learn prompts or the adapter instead"
            )
        return fields

    @property
    def has_region_logits(self) -> bool:
        """Whether a region loss can be computed with this head."""
        return True

    @property
    def chooses_by_people(self) -> bool:
        """Whether the head is built with settings chosen by folds over the training subjects."""
        return False

    @abstractmethod
    def build(self, inputs: "HeadInputs") -> "Head":
        """The head, with weights drawn from torch's generator."""


class DsplOptions(HeadConfig, ABC):
    """The options of a `DsplHead`. The defaults are those of `dspl`."""

    pooling: Literal["mean", "last"] = "mean"
    """What a causal window is predicted from: the mean of its valid rows, or the last of them."""
    width: int = Field(default=256, ge=2)
    """Number of features of each stream after the projection."""
    n_heads: int = Field(default=4, ge=1)
    """Number of heads of every attention; divides `width`."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout probability inside the network."""
    inputs: Literal["standardised", "raw"] = "standardised"
    """Embeddings scaled to mean 0 and deviation 1 over the training rows, or unscaled."""
    adapter: Literal["residual", "none"] = "residual"
    """A learned residual correction of the CLIP embedding, before both of its branches."""
    bottleneck: Annotated[int, Field(ge=1)] | None = None
    """Width of a linear map before each temporal branch; null: the branch reads the embedding."""
    temporal: Temporal = "gru"
    """The temporal branch of each modality."""
    positions: Positions = "rotary"
    """Position encoding of the temporal transformer."""
    fusion: Fusion = "attention_gate"
    """How the two streams are fused, or the one modality that is used alone."""
    query_modality: QueryModality = "visual"
    """The stream that is the query of the cross-modal attention."""
    gate_partner: Modality = "audio"
    """The stream that the gate weighs against the visual stream."""
    fusion_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout in attention weights, feed-forward part, gate MLP and fused stream; null: `dropout`
    of the fused stream, and none elsewhere."""
    attention_init: AttentionInit = "linear"
    """Initial weights of the cross-modal attention: of nn.Linear or of nn.MultiheadAttention."""
    skip_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout of a linear skip connection from the embeddings to V and A; null: no skip."""
    skip_spans: tuple[Annotated[int, Field(ge=2)], ...] = (25, 100)
    """Lengths in rows of the moving averages that the linear skip connection also reads."""
    region_on: Literal["adapted", "temporal", "fused", "frozen"] = "adapted"
    """Input of the region logits; `frozen` is the CLIP embedding before the adapter."""
    logit_scale: Annotated[float, Field(gt=0)] | None = None
    """Scale of the cosines in the region logits; null: learned, from 1/0.07 and at most 100."""
    region_link: RegionLink = "none"
    """What V and A also read from the region branch: probabilities, or their barycentre."""
    squash: Literal["none", "tanh"] = "none"
    """Function applied to V and A; scoring clips to [-1, 1] in any case."""
    prior: Literal["none", "zero_shot"] = "none"
    """What V and A start from: 0, or the zero-shot prediction by the texts of `prompts`."""
    residual: Literal["fused", "visual", "audio"] = "fused"
    """What is read for what V and A add to the prior: as `fusion` says, or one modality."""

    @model_validator(mode="after")
    def _check_options(self) -> "DsplOptions":
        if self.width % self.n_heads or self.width % 2:
            raise ValueError(
                f"width ({self.width}) must be even and a multiple of n_heads ({self.n_heads})"
            )
        head_width = self.width // self.n_heads
        if self.temporal == "transformer" and self.positions == "rotary" and head_width % 2:
            raise ValueError(
                f"rotary positions need heads of even width, and {self.width} / {self.n_heads} "
                f"is {head_width}: change width or n_heads, or set positions to learned"
            )
        if self.prior == "none" and self.residual != "fused":
            raise ValueError(
                f"residual {self.residual!r} is added to a prior, and prior is none: set prior to "
                f"zero_shot, or use fusion {self.residual!r} instead"
            )
        if self.prior != "none" and self.region_link == "barycentre":
            raise ValueError(
                "the prior is a barycentre of the regions already: set region_link to none"
            )
        if self.prior != "none" and self.squash != "none":
            raise ValueError(
                f"squash {self.squash!r} would bend the prior, which V and A start from: set "
                "squash to none"
            )
        if self.streams == "audio" and self.region_on == "temporal":
            key = "fusion" if self.residual == "fused" else "residual"
            raise ValueError(
                f"region_on 'temporal' is the visual stream, and {key} 'audio' has none: "
                "set region_on to fused"
            )
        if self.region_link != "none" and not self.has_region_logits:
            raise ValueError(
                f"fusion 'audio' predicts V and A from audio alone, and region_link "
                f"{self.region_link!r} adds regions that are read from the visual features: set "
                "region_link to none, or region_on to fused"
            )
        if self.fusion == "gate" and self.gate_partner == "visual":
            raise ValueError(
                "fusion 'gate' with gate_partner 'visual' never reads the audio: set gate_partner "
                "to audio, or fusion to attention_gate or visual"
            )
        return self

    def build(self, inputs: "HeadInputs") -> "DsplHead":
        """The head, with weights drawn from torch's generator."""
        from models.heads.network import DsplHead

        return DsplHead(self, inputs)

    @property
    def chooses_by_people(self) -> bool:
        """Whether there is a prior, whose scale and width are chosen."""
        return self.prior != "none"

    @property
    def streams(self) -> Fusion:
        """How the streams that the network reads are fused, or the one that is read."""
        return self.fusion if self.residual == "fused" else self.residual

    @property
    def has_region_logits(self) -> bool:
        """False if V and A are predicted from audio alone and the regions are not."""
        return self.prior != "none" or self.streams != "audio" or self.region_on == "fused"
