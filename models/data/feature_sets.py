"""The visual and the audio feature set that a head reads from a store."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from features.canonical_json import canonical
from features.errors import InputError, SpecMismatch, StoreError
from features.spec import MODALITY, FeatureSpec
from features.store.feature_store import FeatureStore
from models.data.batch import Modality

NAMED_AT_MOST = 5  # clips that a message names; the others it counts


@dataclass(frozen=True, slots=True)
class FeatureSets:
    """The two feature sets of a store that a head reads."""

    store: FeatureStore
    visual: FeatureSpec
    audio: FeatureSpec

    def spec(self, modality: Modality) -> FeatureSpec:
        """The spec of one modality."""
        return self.visual if modality == "visual" else self.audio

    def encoder_config(self, spec: FeatureSpec, clip_id: str) -> JsonValue:
        """The config of the encoder that made a clip's record; None if the record lacks it."""
        commit = self.store.commit(spec.name, clip_id)
        return commit.provenance.get("encoder") if commit else None


def open_sets(store: str, visual: str | None, audio: str | None) -> FeatureSets:
    """The feature sets of these names; None stands for the only set of its modality.

    Raises `InputError`, which lists the candidates, if the choice is not clear.
    """
    opened = FeatureStore.open(store)
    specs = opened.feature_sets()
    return FeatureSets(
        opened,
        _choose(store, specs, "visual", visual),
        _choose(store, specs, "audio", audio),
    )


def open_sets_of_head(store: str, visual: str, audio: str) -> FeatureSets:
    """The sets that a head was trained on; raises `SpecMismatch` if the store lacks one."""
    found = sorted(FeatureStore.open(store).feature_sets())
    if lacking := [name for name in (visual, audio) if name not in found]:
        raise SpecMismatch(
            f"{store} holds features of {', '.join(found) or 'no encoder'}, the head was trained "
            f"on {' and '.join(lacking)}; extract with the head's own encoder config (it is in "
            "the run's provenance.json), or retrain"
        )
    return open_sets(store, visual, audio)


def _choose(
    store: str, specs: dict[str, FeatureSpec], modality: Modality, name: str | None
) -> FeatureSpec:
    """The spec of this name and modality, or the only one of the modality."""
    fitting = {key: spec for key, spec in specs.items() if MODALITY.get(spec.kind) == modality}
    if not fitting:
        raise InputError(
            f"{store} holds no {modality} features, only {', '.join(specs) or 'nothing'}; run "
            f"extract-features with {'a visual' if modality == 'visual' else 'an audio'} encoder"
        )
    if name is None and len(fitting) == 1:
        return next(iter(fitting.values()))
    if name not in fitting:
        problem = f"no {modality} features {name!r}" if name else f"several {modality} feature sets"
        raise InputError(
            f"{store} holds {problem}; choose with {modality}=, of {', '.join(fitting)}"
        )
    return fitting[name]


def record_files(
    sets: FeatureSets, clip_ids: Sequence[str], modality: Modality
) -> dict[str, dict[str, JsonValue]]:
    """By clip the digests of the files of its record in one modality.

    Raises `StoreError` if clips are missing.
    """
    spec = sets.spec(modality)
    commits = {clip_id: sets.store.commit(spec.name, clip_id) for clip_id in clip_ids}
    if missing := [clip_id for clip_id, commit in commits.items() if commit is None]:
        raise StoreError(
            f"{sets.store.backend.path()} lacks features {spec.name} of {len(missing)} of "
            f"{len(clip_ids)} clips ({some(missing)}); run extract-features"
        )
    return {clip_id: dict(commit.files) for clip_id, commit in commits.items() if commit}


def records_digest(sets: FeatureSets, clip_ids: Sequence[str], modality: Modality) -> str:
    """sha256 of what the store holds of the clips in one modality; errors as `record_files`."""
    files: dict[str, JsonValue] = {**record_files(sets, clip_ids, modality)}
    return hashlib.sha256(canonical(files)).hexdigest()


def some(names: Sequence[str]) -> str:
    """The first few names, and the number of the others."""
    more = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
