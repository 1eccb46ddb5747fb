"""The configs of heads: what a network is made of. Imports no torch, so that configs load fast."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.data.stream_names import StreamName
from models.nn.kinds import (
    AttentionInit,
    FusionKind,
    GatePartner,
    Positions,
    RegionLink,
    Temporal,
)
from models.regions.prompts import AnyPrompts, CoopPrompts

if TYPE_CHECKING:
    from models.heads.base import Head, HeadInputs
    from models.heads.network import DsplHead

ConfigT = TypeVar("ConfigT", bound="HeadConfig")
OptionsT = TypeVar("OptionsT", bound="DsplOptions")

FINETUNING_KEYS = {"finetune", "fine_tune", "lora", "train_encoder", "unfreeze"}
"""Keys by which other projects ask for training the encoders."""


class HeadConfig(BaseModel, ABC):
    """What the config of every head has; a subclass adds its `kind`."""

    if TYPE_CHECKING:
        kind: Any

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    allow_ineffective_region_loss: ClassVar[bool] = False
    """Whether the head may be trained with a region loss that changes neither V nor A."""
    trainer: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """The preset's own keys of `train`, which `preset_train` sets unless they are given."""

    windows: Literal["dense", "causal"] = "dense"
    """Predict every row of a window, or the last row of the ten seconds before it."""
    prompts: AnyPrompts | None = CoopPrompts()
    """The texts that describe the regions, and whether their context is learned; null: no
    regions."""
    text_stream: StreamName | None = None
    """The stream that the texts are compared with; null: the first with a text tower."""

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
        return self.prompts is not None

    def for_streams(self: ConfigT, streams: Sequence[str], with_texts: Sequence[str]) -> ConfigT:
        """The config with the names of the streams that it leaves open.

        `with_texts` are those whose encoder has a text tower. Raises `ValueError` if the config
        does not fit the streams.
        """
        if self.text_stream is not None and self.text_stream not in streams:
            raise ValueError(no_such_stream("text_stream", self.text_stream, streams))
        if self.prompts is None:
            return self.model_copy(update={"text_stream": None})
        text_stream = self.text_stream or next(iter(with_texts), None)
        if text_stream not in with_texts:
            which = f"{text_stream} is not" if text_stream else f"of {', '.join(streams)} none is"
            raise ValueError(
                "prompts describe regions by texts, which are compared with a stream of an encoder "
                f"with a text tower (kind clip), and {which}: set prompts to null, or add a "
                "feature set of a clip encoder"
            )
        return self.model_copy(update={"text_stream": text_stream})

    @property
    def reads_regions(self) -> bool:
        """Whether V and A depend on the regions."""
        return False

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
    """A learned residual correction of the embedding that is compared with the texts, or of the
    first stream's, before both of its branches."""
    bottleneck: Annotated[int, Field(ge=1)] | None = None
    """Width of a linear map before each temporal branch; null: the branch reads the embedding."""
    temporal: Temporal = "gru"
    """The temporal branch of each stream."""
    positions: Positions = "rotary"
    """Position encoding of the temporal transformer."""
    fusion: FusionKind | StreamName = "attention_gate"
    """How the streams are fused, or the one stream that is used alone."""
    query: StreamName | Literal["all"] | None = None
    """The stream that is the query of the cross-modal attention; null: the first one."""
    gate_partner: GatePartner = "others"
    """What the gate weighs the first stream against: the others, or itself before attention."""
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
    """Input of the region logits; `frozen` is the embedding before the adapter."""
    logit_scale: Annotated[float, Field(gt=0)] | None = None
    """Scale of the cosines in the region logits; null: learned, from 1/0.07 and at most 100."""
    region_link: RegionLink = "none"
    """What V and A also read from the region branch: probabilities, or their barycentre."""
    squash: Literal["none", "tanh"] = "none"
    """Function applied to V and A; scoring clips to [-1, 1] in any case."""
    prior: Literal["none", "zero_shot"] = "none"
    """What V and A start from: 0, or the zero-shot prediction by the texts of `prompts`."""
    residual: Literal["fused"] | StreamName = "fused"
    """What is read for what V and A add to the prior: as `fusion` says, or one stream."""

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
        if self.prompts is None and self.reads_regions:
            key = "prior" if self.prior != "none" else "region_link"
            raise ValueError(
                f"{key} reads the texts of the regions, and prompts is null: set {key} to none, or "
                "give prompts"
            )
        if self.fusion == "gate" and self.gate_partner == "first":
            raise ValueError(
                "fusion 'gate' with gate_partner 'first' reads the first stream only: set "
                "gate_partner to others, or fusion to attention_gate or the name of the stream"
            )
        return self

    def build(self, inputs: "HeadInputs") -> "DsplHead":
        """The head, with weights drawn from torch's generator."""
        from models.heads.network import DsplHead

        return DsplHead(self.for_streams(tuple(inputs.streams), inputs.with_texts), inputs)

    @property
    def chooses_by_people(self) -> bool:
        """Whether there is a prior, whose scale and width are chosen."""
        return self.prior != "none"

    @property
    def reads_regions(self) -> bool:
        """Whether there is a prior, or a link from the regions."""
        return self.prior != "none" or self.region_link != "none"

    @property
    def alone(self) -> str | None:
        """The stream that the network reads alone; None if it reads all."""
        if self.residual != "fused":
            return self.residual
        return None if self.fusion in get_args(FusionKind) else self.fusion

    def read_streams(self, streams: Sequence[str]) -> tuple[str, ...]:
        """Those of the streams that the network reads."""
        return tuple(name for name in streams if self.alone in (None, name))

    @property
    def has_region_logits(self) -> bool:
        """False without prompts, or if V and A depend on nothing that the regions depend on."""
        if self.prompts is None or self.prior != "none" or self.region_on == "fused":
            return self.prompts is not None
        return self.alone in (None, self.text_stream)

    def for_streams(self: OptionsT, streams: Sequence[str], with_texts: Sequence[str]) -> OptionsT:
        """The config with `query` and `text_stream`; raises as that of `HeadConfig`."""
        key = "fusion" if self.residual == "fused" else "residual"
        for name, value in {key: self.alone, "query": self.query}.items():
            if value not in (None, "all", *streams):
                raise ValueError(no_such_stream(name, value, streams))
        resolved = super().for_streams(streams, with_texts)
        resolved = resolved.model_copy(update={"query": self.query or streams[0]})
        if resolved.prompts is not None and resolved.alone not in (None, resolved.text_stream):
            resolved._check_regions(resolved.alone or "", key)
        return resolved

    def _check_regions(self, alone: str, key: str) -> None:
        """Raises `ValueError` if regions are read from a stream that the network does not read."""
        if self.region_on == "temporal":
            raise ValueError(
                f"region_on 'temporal' is the stream {self.text_stream!r}, and {key} {alone!r} "
                "does not read it: set region_on to fused"
            )
        if self.region_link != "none" and not self.has_region_logits:
            raise ValueError(
                f"{key} {alone!r} predicts V and A from this stream alone, and region_link "
                f"{self.region_link!r} adds regions that are read from {self.text_stream!r}: set "
                "region_link to none, or region_on to fused"
            )


def no_such_stream(key: str, name: str, streams: Sequence[str]) -> str:
    """The message for a key that names a stream that there is not."""
    return f"{key} is {name!r}, and the streams are {', '.join(streams)}: name one of them"
