"""Distance-aware soft prompt learning, in the two presets of its switches."""

from typing import Annotated, Literal

from pydantic import Field

from models.heads.base import HeadInputs
from models.heads.config import DsplOptions
from models.heads.network import DsplHead
from models.nn.stream_fusion import Modality, TemporalName
from models.regions.prompts import AnyPrompts, FixedPrompts


class DsplConfig(DsplOptions):
    """The preset that this project recommends."""

    kind: Literal["dspl"] = "dspl"

    def build(self, inputs: HeadInputs) -> DsplHead:
        """The head, its weights drawn from torch's generator."""
        return DsplHead(self, inputs)


class ReleasedConfig(DsplOptions):
    """The preset that is faithful to the released configuration of Jung et al. (2026).

    Its region loss stands on a frozen embedding, fixed prototypes and a fixed scale, so it changes
    nothing; its gate never sees the sound (the attention before it does).
    """

    kind: Literal["released"] = "released"
    windows: Literal["dense", "causal"] = "causal"
    """One row is predicted, from the ten seconds that end with it."""
    inputs: Literal["standardised", "raw"] = "raw"
    """Embeddings as the encoders gave them."""
    adapter: Literal["residual", "none"] = "none"
    """The CLIP embedding is not corrected."""
    temporal: TemporalName = "tcn"
    """What puts the neighbouring rows into a row."""
    gate_partner: Modality = "image"
    """The gate weighs the image against itself."""
    region_on: Literal["adapted", "temporal", "fused", "frozen"] = "frozen"
    """The region logits are read from the CLIP embedding, which nothing shapes."""
    logit_scale: Annotated[float, Field(gt=0)] | None = 10.0
    """Factor of the cosines; it is not learned."""
    prompts: AnyPrompts = FixedPrompts()
    """What the regions are told by."""

    @property
    def may_be_idle(self) -> bool:
        """True: the region loss is kept as it was released."""
        return True

    def build(self, inputs: HeadInputs) -> DsplHead:
        """The head, its weights drawn from torch's generator."""
        return DsplHead(self, inputs)
