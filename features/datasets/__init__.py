"""Every data set there is. To add one: write its module here, then add it to this union."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from features.datasets.affwild2 import AffWild2Config
from features.errors import InputError

AnyDatasetConfig = Annotated[AffWild2Config, Field(discriminator="kind")]


def dataset(kind: str, root: Path, **settings: object) -> AnyDatasetConfig:
    """The data set of a kind; `InputError` lists the kinds there are."""
    given = {"kind": kind, "root": root, **settings}
    try:
        return TypeAdapter(AnyDatasetConfig).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = "".join(f", {part}" for part in first["loc"][-1:])
        raise InputError(f"data set {kind!r}{field}: {first['msg']}") from None
