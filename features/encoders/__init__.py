"""The encoders. To add one, write its module in this package and add its config to this union."""

from typing import Annotated

from pydantic import Field

from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig

AnyEncoderConfig = Annotated[ClipConfig | AstConfig, Field(discriminator="kind")]
