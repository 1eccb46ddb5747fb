"""Several data sets in one training: their names, and the maps of their labels.

The name of a data set is that of its manifest without suffix. A clip and a subject are called
`SET/NAME` within the training, so that two sets may use the same names. Imports no numpy, so that
configs load fast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from features.config import Config
from features.errors import InputError, list_names

SEPARATOR = "/"


def _refuse_several(manifest: object) -> object:
    if isinstance(manifest, list | tuple):
        raise ValueError(
            "this stage takes one data set; train-head, score-head, baselines and ablate take "
            "several: name one manifest and its store"
        )
    return manifest


Manifests = Path | Annotated[tuple[Path, ...], Field(min_length=1)]
"""One manifest, or that of each of several data sets."""
OneManifest = Annotated[Path, BeforeValidator(_refuse_several)]
"""The manifest of a stage that takes one data set."""
Stores = str | Annotated[tuple[str, ...], Field(min_length=1)]
"""One feature store for all data sets, or one for each, in their order."""
Affine = tuple[Annotated[float, Field(gt=0)], float]
"""Slope and offset."""


class LabelMap(Config):
    """The affine map of a data set's labels to the scale of the first one."""

    valence: Affine = (1.0, 0.0)
    """Slope and offset of valence."""
    arousal: Affine = (1.0, 0.0)
    """Slope and offset of arousal."""


LabelMaps = Literal["match"] | dict[str, LabelMap]
"""By the name of the set; `match` gives each set the mean and the deviation of the first one."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """One of several data sets."""

    name: str
    manifest: Path
    store: str


def data_sets(manifest: Manifests, store: Stores) -> tuple[DataSet, ...]:
    """Return the data sets; a single one has no name, unless it is given as a list.

    Raises `InputError` if two have one name, or there are more or fewer stores than manifests.
    """
    manifests = (manifest,) if isinstance(manifest, Path) else manifest
    stores = (store,) * len(manifests) if isinstance(store, str) else store
    if len(stores) != len(manifests):
        raise InputError(
            f"there are {len(manifests)} manifests and {len(stores)} stores; give a store for each "
            "manifest, in the same order, or one that has the features of all"
        )
    if isinstance(manifest, Path):
        return (DataSet("", manifests[0], stores[0]),)
    names = [path.stem for path in manifests]
    if double := next((name for name in names if names.count(name) > 1), None):
        both = " and ".join(str(path) for path in manifests if path.stem == double)
        raise InputError(
            f"two data sets are called {double!r}, by their manifests {both}; rename one file"
        )
    return tuple(DataSet(*each) for each in zip(names, manifests, stores, strict=True))


def absolute_manifests(manifest: Manifests) -> Manifests:
    """Return the manifests by paths that do not depend on the current folder."""
    if isinstance(manifest, Path):
        return manifest.resolve()
    return tuple(path.resolve() for path in manifest)


def clips_by_set(clip_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the ids of the clips of each set, with the names of the sets; none of a single set."""
    found: dict[str, list[str]] = {}
    for clip_id in clip_ids:
        name, separator, _ = clip_id.partition(SEPARATOR)
        if separator:
            found.setdefault(name, []).append(clip_id)
    return found


def check_names(key: str, given: Mapping[str, object], known: Sequence[str]) -> None:
    """Raise `InputError` if a key of `train` names a data set that there is not."""
    unknown = [name for name in given if name not in known]
    if not unknown:
        return
    sets = f"the data sets are {', '.join(known)}" if known else "there is only one data set"
    raise InputError(f"train.{key} names {list_names(unknown)}, but {sets}; correct or remove it")
