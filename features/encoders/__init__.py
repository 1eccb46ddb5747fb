"""Every encoder there is. To add one: write its module here, then add it to this union.

What it tells of is said in features/modality.py as well.
"""

from typing import Annotated

from pydantic import Field

from features.encoders.ast import AstConfig
from features.encoders.clip import ClipConfig

AnyEncoderConfig = Annotated[ClipConfig | AstConfig, Field(discriminator="kind")]
