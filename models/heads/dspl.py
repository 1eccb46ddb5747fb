"""Distance-aware soft prompt learning, in the two presets of its switches."""

from typing import Annotated, Literal

from pydantic import Field

from models.heads.base import HeadInputs
from models.heads.network import DsplHead
from models.heads.switches import Switches
from models.prompts import AnyPrompts, FixedPrompts
from models.streams import Modality, TemporalName


class DsplConfig(Switches):
    """The preset that this project recommends."""

    kind: Literal["dspl"] = "dspl"

    def build(self, inputs: HeadInputs) -> DsplHead:
        """The head, its weights drawn from torch's generator."""
        return DsplHead(self, inputs)


class ReleasedConfig(Switches):
    """The preset that is faithful to the released configuration of Jung et al. (2026).

    Its region loss stands on a frozen embedding, fixed prototypes and a fixed scale, so it changes
    nothing; its gate never sees the sound (the attention before it does).
    """

    kind: Literal["released"] = "released"
    windows: Literal["dense", "causal"] = "causal"
    inputs: Literal["standardised", "raw"] = "raw"
    adapter: Literal["residual", "none"] = "none"
    temporal: TemporalName = "tcn"
    gate_partner: Modality = "image"
    region_on: Literal["adapted", "temporal", "fused", "frozen"] = "frozen"
    logit_scale: Annotated[float, Field(gt=0)] | None = 10.0
    prompts: AnyPrompts = FixedPrompts()

    @property
    def may_be_idle(self) -> bool:
        """True: the region loss is kept as it was released."""
        return True

    def build(self, inputs: HeadInputs) -> DsplHead:
        """The head, its weights drawn from torch's generator."""
        return DsplHead(self, inputs)
