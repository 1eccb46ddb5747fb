"""The feature sets of several data sets that a head reads together."""

from collections.abc import Mapping, Sequence

from features.errors import InputError
from features.spec import FeatureSpec
from models.data.data_sets import DataSet
from models.data.feature_sets import (
    FeatureSets,
    check_distinct,
    choose,
    name_streams,
    open_sets,
    open_store,
)
from models.data.joined_store import JoinedStore

Specs = Mapping[str, FeatureSpec]
"""The feature sets of a store by name."""


def open_sets_of(
    data_sets: Sequence[DataSet], streams: Mapping[str, str | None] | None = None
) -> FeatureSets:
    """Return the feature sets of data sets, which must be of the same encoders in all their stores.

    A set whose store has no features of a modality, such as one without sound, has no row of its
    streams, and the result has a note. Raises `InputError` as `open_sets` does, or if a store has
    other features of a modality.
    """
    if not data_sets[0].name:
        return open_sets(data_sets[0].store, streams)
    opened = {each.name: open_store(each.store) for each in data_sets}
    found = {name: specs for name, (_, specs) in opened.items()}
    if streams is None:
        every = {spec.name: spec for specs in found.values() for spec in specs.values()}
        chosen = name_streams(every.values())
    else:
        chosen = {
            stream: _spec_of(data_sets, found, stream, name) for stream, name in streams.items()
        }
        check_distinct(chosen)
    notes = tuple(
        note
        for each in data_sets
        for stream, spec in chosen.items()
        if spec.name not in found[each.name]
        and (note := _missing(data_sets, found, each, stream, spec))
    )
    for each in data_sets:
        if not any(spec.name in found[each.name] for spec in chosen.values()):
            raise InputError(
                f"the data set {each.name!r} ({each.store}) has none of the streams "
                f"{', '.join(chosen)}; extract its features, or leave it out"
            )
    joined = JoinedStore(
        {name: store for name, (store, _) in opened.items()},
        {name: frozenset(specs) for name, specs in found.items()},
    )
    return FeatureSets(joined, chosen, notes)


def _spec_of(
    data_sets: Sequence[DataSet], found: Mapping[str, Specs], stream: str, name: str | None
) -> FeatureSpec:
    """Return the spec of a stream in the first data set that has it; raises as `open_sets`."""
    for each in data_sets:
        specs = found[each.name]
        if name in specs or (not name and any(s.modality == stream for s in specs.values())):
            return choose(each.store, specs, stream, name)
    return choose(data_sets[0].store, found[data_sets[0].name], stream, name)  # or say why not


def _missing(
    data_sets: Sequence[DataSet],
    found: Mapping[str, Specs],
    lacking: DataSet,
    stream: str,
    spec: FeatureSpec,
) -> str:
    """Return a note on a stream that a data set lacks; `InputError` if it has other features."""
    others = [each.name for each in found[lacking.name].values() if each.modality == spec.modality]
    if not others:
        return (
            f"the data set {lacking.name!r} has no {spec.modality} features: the stream "
            f"{stream!r} is masked in its rows"
        )
    having = next(each for each in data_sets if spec.name in found[each.name])
    ours, theirs = (", ".join(found[each.name]) for each in (having, lacking))
    raise InputError(
        f"the data sets {having.name!r} and {lacking.name!r} have other features: "
        f"{having.store} has {ours}, {lacking.store} has {theirs}; a head reads the "
        "same streams of all: extract both with the same encoders, or name those that both "
        "have with streams={visual: ..., audio: ...}"
    )
