"""The supported data sets. To add one, write its module here and its line in `KINDS`."""

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from pydantic import ValidationError

from features.config_errors import describe
from features.datasets.base import DatasetConfig
from features.errors import InputError

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


def dataset(kind: str, root: Path, **settings: object) -> DatasetConfig:
    """Return the config of a data set; raise `InputError` for an unknown kind or key."""
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1, cutoff=0.0)[0]
        raise InputError(
            f"there is no data set {kind!r}; there are {', '.join(KINDS)}, the nearest is {near!r}"
        )
    config = config_of(kind)
    try:
        return config.model_validate({"root": root, **settings})
    except ValidationError as error:
        raise InputError(f"data set {kind!r}: {describe(error, config)}") from None
