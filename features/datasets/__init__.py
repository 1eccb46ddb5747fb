"""The supported data sets. To add one, write its module here and its line in `KINDS`."""

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from features.config_errors import describe
from features.datasets.base import DatasetConfig
from features.errors import InputError
from features.plugins import DATASETS, Plugin, class_problem, config_class, plugins

KINDS = {
    "afew-va": "features.datasets.afew_va:AfewVaConfig",
    "affwild2": "features.datasets.affwild2:AffWild2Config",
    "msp-conversation": "features.datasets.msp_conversation:MspConversationConfig",
    "series": "features.datasets.series:SeriesConfig",
    "table": "features.datasets.table:TableConfig",
    "veatic": "features.datasets.veatic:VeaticConfig",
}
"""Where the config of each kind is, as `module:Class`."""


def config_of(kind: str) -> type[DatasetConfig]:
    """The config class of one of `KINDS`."""
    module, _, name = KINDS[kind].partition(":")
    return getattr(import_module(module), name)


def plugin_config(plugin: Plugin) -> type[DatasetConfig]:
    """The config class of a plug-in; `InputError` if it cannot be imported or is no data set's."""
    return config_class(plugin, _problem)


def _problem(plugin: Plugin, config: Any) -> str:
    return class_problem(plugin, config, DatasetConfig, KINDS)


def dataset(kind: str, root: Path, **settings: object) -> DatasetConfig:
    """Return the config of a data set; raise `InputError` for an unknown kind or key."""
    installed = {plugin.name: plugin for plugin in plugins(DATASETS)}
    kinds = [*KINDS, *(name for name in installed if name not in KINDS)]
    if kind not in kinds:
        near = get_close_matches(kind, kinds, n=1, cutoff=0.0)[0]
        raise InputError(
            f"there is no data set {kind!r}; there are {', '.join(kinds)}, the nearest is {near!r}"
        )
    config = config_of(kind) if kind in KINDS else plugin_config(installed[kind])
    try:
        return config.model_validate({"root": root, **settings})
    except ValidationError as error:
        raise InputError(f"data set {kind!r}: {describe(error, config)}") from None
