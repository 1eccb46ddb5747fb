"""The supported data sets. To add one, write a module and add its config to the union."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from features.config_errors import describe, kind_of, models_in
from features.datasets.affwild2 import AffWild2Config
from features.datasets.base import DatasetConfig
from features.datasets.series import SeriesConfig
from features.datasets.table import TableConfig
from features.datasets.veatic import VeaticConfig
from features.errors import InputError

AnyDatasetConfig = Annotated[
    AffWild2Config | SeriesConfig | TableConfig | VeaticConfig,
    Field(discriminator="kind"),
]


def dataset(kind: str, root: Path, **settings: object) -> DatasetConfig:
    """Return the config of a data set; raise `InputError` for an unknown kind or key."""
    configs = {kind_of(model): model for model in models_in(AnyDatasetConfig)}
    if kind not in configs:
        kinds = [str(each) for each in configs]
        near = get_close_matches(kind, kinds, n=1, cutoff=0.0)[0]
        raise InputError(
            f"there is no data set {kind!r}; there are {', '.join(kinds)}, the nearest is {near!r}"
        )
    try:
        config = configs[kind].model_validate({"root": root, **settings})
    except ValidationError as error:
        raise InputError(f"data set {kind!r}: {describe(error, configs[kind])}") from None
    assert isinstance(config, DatasetConfig)
    return config
