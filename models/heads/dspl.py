"""Distance-aware soft prompt learning (Jung et al., 2026): two presets of one network."""

from typing import Annotated, Literal

from pydantic import Field

from models.heads.config import DsplOptions
from models.nn.kinds import Modality, Temporal
from models.regions.prompts import AnyPrompts, FixedPrompts


class DsplConfig(DsplOptions):
    """The recommended preset."""

    kind: Literal["dspl"] = "dspl"


class ReleasedConfig(DsplOptions):
    """The released configuration of Jung et al. (2026).

    Its region loss reads a frozen embedding, fixed prototypes and a fixed scale, so it has no
    gradient; its gate weighs the visual stream against itself.
    """

    kind: Literal["released"] = "released"
    allow_ineffective_region_loss = True  # it is kept as it was released
    windows: Literal["dense", "causal"] = "causal"
    """Predict the last row of the ten seconds before it."""
    inputs: Literal["standardised", "raw"] = "raw"
    """Embeddings are not scaled."""
    adapter: Literal["residual", "none"] = "none"
    """No correction of the CLIP embedding."""
    temporal: Temporal = "tcn"
    """The temporal branch of each modality."""
    gate_partner: Modality = "visual"
    """The gate weighs the visual stream against itself."""
    region_on: Literal["adapted", "temporal", "fused", "frozen"] = "frozen"
    """The region logits are read from the frozen CLIP embedding."""
    logit_scale: Annotated[float, Field(gt=0)] | None = 10.0
    """Fixed scale of the cosines."""
    prompts: AnyPrompts = FixedPrompts()
    """The texts that describe the regions."""
