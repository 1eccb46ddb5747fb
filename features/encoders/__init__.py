"""The encoders, which `features/encoder_kinds.py` lists."""

from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from features.encoder_kinds import KINDS, config_of, plugin_config
from features.plugins import ENCODERS, usable_plugins

if TYPE_CHECKING:
    from features.encoders.base import EncoderConfig

    AnyEncoderConfig = EncoderConfig


def __getattr__(name: str) -> Any:
    """Make `AnyEncoderConfig` when it is first asked for: an encoder can be imported alone."""
    if name == "AnyEncoderConfig":
        return _union()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _union() -> Any:
    own = [config_of(kind) for kind, entry in KINDS.items() if entry.modality != "faces"]
    configs = (*own, *usable_plugins(ENCODERS, plugin_config).values())
    return Annotated[reduce(or_, configs), Field(discriminator="kind")]
