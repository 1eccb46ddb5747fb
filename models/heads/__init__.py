"""Every head. To add one, write its module here and add its config to this union."""

from typing import Annotated

from pydantic import Field

from models.heads.dspl import DsplConfig, ReleasedConfig

AnyHeadConfig = Annotated[DsplConfig | ReleasedConfig, Field(discriminator="kind")]
