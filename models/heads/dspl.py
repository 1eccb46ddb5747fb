"""Distance-aware soft prompt learning (Jung et al., 2026): two presets of one network."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from models.heads.config import DsplOptions
from models.nn.kinds import AttentionInit, GatePartner, Temporal
from models.regions.prompts import AnyPrompts, FixedPrompts

DIFFERENCES_OF_0_1 = {
    "windows",
    "inputs",
    "adapter",
    "temporal",
    "gate_partner",
    "region_on",
    "logit_scale",
    "prompts",
}
"""The keys by which the presets differed in version 0.1, whose run folders have every key."""


class DsplConfig(DsplOptions):
    """The recommended preset."""

    kind: Literal["dspl"] = "dspl"

    @model_validator(mode="before")
    @classmethod
    def _pool_the_last_row(cls, fields: object) -> object:
        """A causal head reads its last row, unless it is of a version that only had the mean."""
        if not isinstance(fields, dict) or fields.keys() >= DIFFERENCES_OF_0_1:
            return fields
        return ({"pooling": "last"} if fields.get("windows") == "causal" else {}) | fields


class ReleasedConfig(DsplOptions):
    """The released configuration of Jung et al. (2026), network and trainer.

    Its region loss reads a frozen embedding, fixed prototypes and a fixed scale, so it has no
    gradient; its gate weighs the visual stream against itself. What still differs from the released
    code is listed in configs/heads/released.yaml.
    """

    kind: Literal["released"] = "released"
    allow_ineffective_region_loss = True  # it is kept as it was released
    trainer: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {
            "epochs": 15,
            "select": "val",
            "patience": 5,
            "min_delta": 1e-4,
            "batch_size": 16,
            "drop_last": True,
            "learning_rate": 1e-4,
            "schedule": "constant",
            "warmup": 0.0,
            "weight_decay": 1e-4,
            "clip_grad_norm": None,
            "causal_start_s": 10.0,
            "causal_stride_s": 3.0,
            "mixup": 0.0,
        }
    )
    windows: Literal["dense", "causal"] = "causal"
    """Predict the last row of the ten seconds before it."""
    inputs: Literal["standardised", "raw"] = "raw"
    """Embeddings are not scaled."""
    adapter: Literal["residual", "none"] = "none"
    """No correction of the CLIP embedding."""
    temporal: Temporal = "tcn_released"
    """The temporal branch of each stream."""
    fusion_dropout: Annotated[float, Field(ge=0, lt=1)] | None = 0.1
    """Dropout in attention weights, feed-forward part, gate MLP and fused stream."""
    attention_init: AttentionInit = "xavier"
    """Initial weights of the cross-modal attention, here those of nn.MultiheadAttention."""
    gate_partner: GatePartner = "first"
    """The gate weighs the visual stream against itself."""
    region_on: Literal["adapted", "temporal", "fused", "frozen"] = "frozen"
    """The region logits are read from the frozen CLIP embedding."""
    logit_scale: Annotated[float, Field(gt=0)] | None = 10.0
    """Fixed scale of the cosines."""
    prompts: AnyPrompts | None = FixedPrompts()
    """The texts that describe the regions."""

    @model_validator(mode="before")
    @classmethod
    def _keep_network_of_0_1(cls, fields: object) -> object:
        """A config with every difference of 0.1 and no later key, as in its run folders.

        Such a head was trained without the dropout and the initialisation that came later.
        """
        if not isinstance(fields, dict) or not fields.keys() >= DIFFERENCES_OF_0_1:
            return fields
        return {"fusion_dropout": None, "attention_init": "linear"} | fields
