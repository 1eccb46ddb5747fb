"""Every encoder there is. To add one: write its module here, then add it to this union."""

from typing import Annotated

from pydantic import Field

from features.encoders.ast import AstConfig
from features.encoders.base import Modality
from features.encoders.clip import ClipConfig

AnyEncoderConfig = Annotated[ClipConfig | AstConfig, Field(discriminator="kind")]

MODALITY: dict[str, Modality] = {
    config.model_fields["kind"].default: config.modality for config in (ClipConfig, AstConfig)
}
