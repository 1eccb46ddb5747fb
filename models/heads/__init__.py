"""Every head there is. To add one: write its module here, then add its config to this union."""

from typing import Annotated

from pydantic import Field

from models.heads.dspl import DsplConfig

# One member today; with `|` and a second, nothing else changes.
AnyHeadConfig = Annotated[DsplConfig, Field(discriminator="kind")]
