"""The visual and audio feature sets that a head reads from a store."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from features.canonical_json import JsonObject, canonical_sha256
from features.errors import InputError, SpecMismatch, StoreError, list_names
from features.spec import MODALITY, FeatureSpec
from features.store.feature_store import FeatureStore
from models.data.batch import Modality


@dataclass(frozen=True, slots=True)
class FeatureSets:
    """The two feature sets of a store that a head reads."""

    store: FeatureStore
    visual: FeatureSpec
    audio: FeatureSpec

    def spec(self, modality: Modality) -> FeatureSpec:
        """Return the spec of one modality."""
        return self.visual if modality == "visual" else self.audio

    def encoder_config(self, spec: FeatureSpec, clip_id: str) -> JsonObject | None:
        """Return the config of the encoder of a clip's record; None if the record lacks it."""
        commit = self.store.commit(spec.name, clip_id)
        return commit.provenance.get("encoder") if commit else None


def open_sets(store: str, visual: str | None, audio: str | None) -> FeatureSets:
    """Return the feature sets with these names; None selects the only set of a modality.

    Raises `InputError` with the candidates if the choice is ambiguous.
    """
    opened = FeatureStore.open(store)
    specs = opened.feature_sets()
    visual_spec = _choose(store, specs, "visual", visual)
    return FeatureSets(opened, visual_spec, _choose(store, specs, "audio", audio))


def open_sets_of_head(store: str, visual: str, audio: str) -> FeatureSets:
    """Return the sets that a head was trained on; raises `SpecMismatch` if one is missing."""
    names = sorted(FeatureStore.open(store).feature_sets())
    if missing := [name for name in (visual, audio) if name not in names]:
        raise SpecMismatch(
            f"{store} holds features of {', '.join(names) or 'no encoder'}, the head was trained "
            f"on {' and '.join(missing)}; extract with the head's own encoder config (it is in "
            "the run's provenance.json), or retrain"
        )
    return open_sets(store, visual, audio)


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


def _choose(
    store: str, specs: dict[str, FeatureSpec], modality: Modality, name: str | None
) -> FeatureSpec:
    """Return the spec of this name and modality, or the only one of the modality."""
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
    """Return the file digests of each clip's record; raises `StoreError` if one is missing."""
    spec = sets.spec(modality)
    commits = {clip_id: sets.store.commit(spec.name, clip_id) for clip_id in clip_ids}
    if missing := [clip_id for clip_id, commit in commits.items() if commit is None]:
        raise StoreError(
            f"{sets.store.backend.path()} lacks features {spec.name} of {len(missing)} of "
            f"{len(clip_ids)} clips ({list_names(missing)}); run extract-features"
        )
    return {clip_id: dict(commit.files) for clip_id, commit in commits.items() if commit}


def records_digest(sets: FeatureSets, clip_ids: Sequence[str], modality: Modality) -> str:
    """Return the sha256 of the clips' records in one modality; raises as `record_files` does."""
    return canonical_sha256(record_files(sets, clip_ids, modality))
