"""The encoders, which `features/encoder_kinds.py` lists."""

from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from features.encoder_kinds import KINDS, config_of, plugin_config
from features.errors import InputError
from features.plugins import ENCODERS, Plugin, plugins

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
    configs = (*own, *usable_plugins().values())
    return Annotated[reduce(or_, configs), Field(discriminator="kind")]


@cache
def usable_plugins() -> dict[str, Any]:
    """The config classes of the plug-ins that can be used, by kind."""
    found = {}
    for plugin in plugins(ENCODERS):
        if isinstance(config := config_or_problem(plugin), type):
            found.setdefault(plugin.name, config)
    return found


def config_or_problem(plugin: Plugin) -> Any:
    """The config class of a plug-in, or why it cannot be used."""
    try:
        return plugin_config(plugin)
    except InputError as error:
        return str(error)
