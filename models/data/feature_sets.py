"""The feature sets of a store that a head reads, each as a stream with a name."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from pydantic import JsonValue

from features.canonical_json import JsonObject, canonical_sha256
from features.errors import InputError, SpecMismatch, StoreError, list_names
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore
from models.data.batch import Modality
from models.data.joined_store import JoinedStore

MODALITIES: tuple[Modality, ...] = get_args(Modality)
WITH_TEXTS = {"clip"}
"""Kinds of encoders with a text tower."""


@dataclass(frozen=True)
class FeatureSets:
    """Feature sets of a store."""

    store: FeatureStore | JoinedStore
    specs: Mapping[str, FeatureSpec]
    """By the name of the stream, visual ones first unless the user gave another order."""
    notes: tuple[str, ...] = ()
    """On data sets that lack a stream."""

    @property
    def location(self) -> str:
        """Where the store is; of several data sets, all their stores."""
        store = self.store
        return store.location() if isinstance(store, JoinedStore) else store.backend.path()

    @property
    def names(self) -> dict[str, str]:
        """The name of the feature set of each stream."""
        return {stream: spec.name for stream, spec in self.specs.items()}

    @property
    def modalities(self) -> dict[str, Modality]:
        """The modality of each stream."""
        return {stream: _modality(spec) for stream, spec in self.specs.items()}

    @cached_property
    def clock(self) -> FeatureSpec | None:
        """The visual set whose frames are the rows; one of the store if no stream is visual."""
        return _first_visual(self.specs) or _first_visual(self.store.feature_sets())

    def has(self, spec: FeatureSpec, clip_id: str) -> bool:
        """Whether the store of a clip has these features; of several data sets one may not."""
        return not isinstance(self.store, JoinedStore) or self.store.has(spec.name, clip_id)

    def clock_of(self, clip_id: str) -> FeatureSpec | None:
        """The clock if the store of the clip has it."""
        return self.clock if self.clock and self.has(self.clock, clip_id) else None

    @property
    def with_texts(self) -> tuple[str, ...]:
        """The streams whose encoder has a text tower."""
        return tuple(name for name, spec in self.specs.items() if spec.kind in WITH_TEXTS)

    def encoder_config(self, spec: FeatureSpec, clip_id: str) -> JsonObject | None:
        """Return the config of the encoder of a clip's record; None if the record lacks it.

        If the data set of the clip has no such features, it is that of a clip of another one.
        """
        if isinstance(self.store, JoinedStore) and not self.has(spec, clip_id):
            commit = self.store.any_commit(spec.name)
        else:
            commit = self.store.commit(spec.name, clip_id)
        return commit.provenance.get("encoder") if commit else None


def open_sets(store: str, streams: Mapping[str, str | None] | None = None) -> FeatureSets:
    """Return the feature sets with these names; without names all sets of the store.

    The streams of all sets are called `visual` and `audio`, if there is one of each; of several
    sets of a modality, the first has this name and each other one that of its kind. Raises
    `InputError` with the candidates if there is no such set, or two streams are of one.
    """
    if streams is None:
        return sets_of_store(store)
    opened, specs = open_store(store)
    if not streams:
        raise InputError("streams names no feature set; leave it out, or name one")
    chosen = {stream: choose(store, specs, stream, name) for stream, name in streams.items()}
    check_distinct(chosen)
    return FeatureSets(opened, chosen)


def check_distinct(chosen: Mapping[str, FeatureSpec]) -> None:
    """Raise `InputError` if two streams are of one feature set."""
    of_set: dict[str, str] = {}
    for stream, spec in chosen.items():
        if (other := of_set.setdefault(spec.name, stream)) != stream:
            raise InputError(
                f"the streams {other!r} and {stream!r} are both of the features {spec.name}; give "
                "each feature set once"
            )


def sets_of_store(store: str, names: Sequence[str] | None = None) -> FeatureSets:
    """Return the sets of a store, or those with these names; their streams have default names."""
    opened, specs = open_store(store)
    chosen = specs if names is None else {name: specs[name] for name in names}
    return FeatureSets(opened, name_streams(chosen.values()))


def open_store(store: str) -> tuple[FeatureStore, dict[str, FeatureSpec]]:
    """Open a store, and return its sets by name; raises `InputError` if it has none."""
    opened = FeatureStore.open(store)
    specs = {
        name: spec for name, spec in opened.feature_sets().items() if spec.modality in MODALITIES
    }
    if not specs:
        raise InputError(f"{store} holds no features of an encoder; run extract-features first")
    return opened, specs


def open_sets_of_head(store: str, streams: Mapping[str, str | None]) -> FeatureSets:
    """Return the sets that a head was trained on; raises `SpecMismatch` if one is missing."""
    names = sorted(FeatureStore.open(store).feature_sets())
    if missing := [name for name in streams.values() if name and name not in names]:
        raise SpecMismatch(
            f"{store} holds features of {', '.join(names) or 'no encoder'}, the head was trained "
            f"on {' and '.join(missing)}; extract with the head's own encoder config (it is in "
            "the run's provenance.json), or retrain"
        )
    return open_sets(store, streams)


def encoder_of_any_record(store: str, name: str) -> JsonValue:
    """Return the encoder config in some record of a feature set; None if no record has one.

    Raises `StoreError` if there is no such store.
    """
    opened = FeatureStore.open(store)
    for clip_id in opened.clip_ids(name):
        commit = opened.commit(name, clip_id)
        if commit and (config := commit.provenance.get("encoder")):
            return config
    return None


def _modality(spec: FeatureSpec) -> Modality:
    return "audio" if spec.modality == "audio" else "visual"


def _first_visual(specs: Mapping[str, FeatureSpec]) -> FeatureSpec | None:
    return next((spec for spec in specs.values() if spec.has_frame_rows), None)


def name_streams(specs: Iterable[FeatureSpec]) -> dict[str, FeatureSpec]:
    """Return every set by the name of its stream: visual ones first, and those with texts first.

    The first set of a modality is called `visual` or `audio`, each other one like its kind.
    """
    ordered = sorted(specs, key=lambda s: (_modality(s) == "audio", s.kind not in WITH_TEXTS))
    named: dict[str, FeatureSpec] = {}
    for spec in ordered:
        first, n = _modality(spec), 1
        name = spec.kind if first in named else first
        while name in named:
            n += 1
            name = f"{spec.kind}_{n}"
        named[name] = spec
    return named


def choose(
    store: str, specs: Mapping[str, FeatureSpec], stream: str, name: str | None
) -> FeatureSpec:
    """Return the spec of this name; without one, the only one of the modality of this name."""
    if name is not None:
        if name in specs:
            return specs[name]
        if name.startswith("faces-"):
            raise InputError(
                f"the stream {stream!r} is of {name}, which says where faces are and is no input "
                f"of heads; choose of {', '.join(specs)} with streams.{stream}="
            )
        raise InputError(
            f"{store} holds no features {name!r} for the stream {stream!r}; give one of "
            f"{', '.join(specs)} with streams.{stream}="
        )
    if stream not in MODALITIES:
        raise InputError(
            f"the stream {stream!r} has no feature set; give one of {', '.join(specs)} with "
            f"streams.{stream}="
        )
    fitting = [spec for spec in specs.values() if _modality(spec) == stream]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(spec.name for spec in fitting)
        raise InputError(
            f"{store} holds several {stream} feature sets; choose one of {names} with "
            f"streams.{stream}="
        )
    raise InputError(
        f"{store} holds no {stream} features, only {', '.join(specs)}; run extract-features with "
        f"{'a visual' if stream == 'visual' else 'an audio'} encoder, or leave the stream out"
    )


def record_files(
    sets: FeatureSets, clip_ids: Sequence[str], spec: FeatureSpec
) -> dict[str, dict[str, JsonValue]]:
    """Return the file digests of each clip's record; raises `StoreError` if one is missing.

    A clip of a data set without such features has none.
    """
    having = [clip_id for clip_id in clip_ids if sets.has(spec, clip_id)]
    commits = {clip_id: sets.store.commit(spec.name, clip_id) for clip_id in having}
    if missing := [clip_id for clip_id, commit in commits.items() if commit is None]:
        raise StoreError(
            f"{sets.location} lacks features {spec.name} of {len(missing)} of "
            f"{len(clip_ids)} clips ({list_names(missing)}); run extract-features"
        )
    files = {clip_id: commit.files for clip_id, commit in commits.items() if commit}
    return {clip_id: dict(files.get(clip_id, {})) for clip_id in clip_ids}


def records_digest(sets: FeatureSets, clip_ids: Sequence[str], spec: FeatureSpec) -> str:
    """Return the sha256 of the clips' records of one set; raises as `record_files` does."""
    return canonical_sha256(record_files(sets, clip_ids, spec))
