"""Every head. To add one, write its module here and add its config to `OWN`."""

from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from models.heads.config import HeadConfig
from models.heads.dspl import DsplConfig, ReleasedConfig
from models.heads.plugins import usable_heads

OWN: tuple[type[HeadConfig], ...] = (DsplConfig, ReleasedConfig)
"""The heads that are not plug-ins."""

if TYPE_CHECKING:
    AnyHeadConfig = HeadConfig


def __getattr__(name: str) -> Any:
    """Make `AnyHeadConfig` when it is first asked for: a plug-in imports this package."""
    if name == "AnyHeadConfig":
        return _union()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _union() -> Any:
    own = {config.model_fields["kind"].default: config for config in OWN}
    configs = own | dict(usable_heads(own))
    return Annotated[reduce(or_, configs.values()), Field(discriminator="kind")]
