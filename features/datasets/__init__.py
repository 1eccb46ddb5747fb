"""The supported data sets. To add one, write a module and add its config to the union."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from features.datasets.affwild2 import AffWild2Config
from features.errors import InputError

AnyDatasetConfig = Annotated[AffWild2Config, Field(discriminator="kind")]


def dataset(kind: str, root: Path, **settings: object) -> AnyDatasetConfig:
    """Return the config of a data set; raise `InputError` with the valid kinds for another kind."""
    try:
        fields = {"kind": kind, "root": root, **settings}
        return TypeAdapter(AnyDatasetConfig).validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = "".join(f", {part}" for part in first["loc"][-1:])
        raise InputError(f"data set {kind!r}{field}: {first['msg']}") from None
