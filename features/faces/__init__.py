"""Faces in video: detectors, the tracker, and the alignment of crops.

To add a detector, write its module in this package and add its config to `OWN`.
"""

from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from features.config_errors import kind_of
from features.faces.detector import DetectorConfig
from features.faces.retinaface import RetinaFaceConfig
from features.faces.yunet import YuNetConfig
from features.plugins import DETECTORS, Plugin, class_problem, config_class, usable_plugins

OWN: tuple[type[DetectorConfig], ...] = (YuNetConfig, RetinaFaceConfig)
"""The detectors that are not plug-ins."""

if TYPE_CHECKING:
    AnyDetectorConfig = DetectorConfig


def __getattr__(name: str) -> Any:
    """Make `AnyDetectorConfig` when it is first asked for: a plug-in imports this package."""
    if name == "AnyDetectorConfig":
        return _union()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _union() -> Any:
    configs = (*OWN, *usable_plugins(DETECTORS, plugin_config).values())
    return Annotated[reduce(or_, configs), Field(discriminator="kind")]


def plugin_config(plugin: Plugin) -> type[DetectorConfig]:
    """The config class of a plug-in; `InputError` if it cannot be imported or is no detector's."""
    return config_class(plugin, _problem)


def _problem(plugin: Plugin, config: Any) -> str:
    return class_problem(plugin, config, DetectorConfig, {kind_of(each) for each in OWN})
