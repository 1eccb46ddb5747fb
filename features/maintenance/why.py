"""Why a clip's features are as they are: field by field, against what would be wanted now."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from features.canonical_json import JsonObject
from features.errors import InputError, MediaError
from features.freshness.clip_state import record_state
from features.freshness.media_digests import SourceDigests
from features.freshness.quarantine import is_valid, read_entry
from features.maintenance.status import unreadable_state
from features.manifest.manifest import read_manifest
from features.media.decoder_version import decoder_version
from features.spec import MODALITY, FeatureSpec
from features.store.feature_store import FeatureStore

ABSENT = "(not there)"


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One field that is not the same in two places, as JSON spells its values."""

    field: str
    """Dotted path, such as `spec.preprocessing.size` or `source.video`."""
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Why:
    """What one feature set says of the clip."""

    spec: str
    state: str
    reason: str
    made_because: str
    """The reason of the extraction, as it was recorded."""
    differences: tuple[FieldDifference, ...]
    """Of the source, to what the manifest's media holds now."""
    others: dict[str, tuple[FieldDifference, ...]]
    """To each other set of the same kind: what differs, from it to this one."""


def why(store: str, clip_id: str, manifest: Path | None = None) -> tuple[Why, ...]:
    """What each feature set of the store says of the clip.

    Without a manifest the media is not looked at. `InputError` where nothing knows the clip.
    """
    opened = FeatureStore.open(store)
    sets = opened.feature_sets()
    found = tuple(_of_set(opened, sets, name, clip_id, manifest) for name in sets)
    if manifest is None and all(each.state == "missing" for each in found):
        raise InputError(
            f"{store} knows nothing of a clip {clip_id!r}; `vaflow ls {store}` lists its clips"
        )
    return found


def _of_set(
    store: FeatureStore,
    sets: dict[str, FeatureSpec],
    name: str,
    clip_id: str,
    manifest: Path | None,
) -> Why:
    seen = store.header(name, clip_id)
    spec, before = sets[name], seen.commit.source if seen.commit else {}
    source = before
    try:
        if manifest is not None:
            source = _source_now(clip_id, manifest, spec)
        state, reason = record_state(seen, source)
    except MediaError as error:
        state, reason = unreadable_state(seen, error)
    held = read_entry(store.work, name, clip_id)
    still = held and (manifest is None or is_valid(held, source, decoder_version()))
    if held and still and state != "complete":
        state, reason = "quarantined", f"{held.code}: {held.words}"
    others = {
        other: tuple(differences("spec", sets[other].model_dump(), spec.model_dump()))
        for other in sets
        if other != name and sets[other].kind == spec.kind
    }
    made_because = str(seen.commit.provenance.get("reason", "")) if seen.commit else ""
    source_differs = tuple(differences("source", before, source)) if seen.commit else ()
    return Why(name, state, reason, made_because, source_differs, others)


def _source_now(clip_id: str, manifest: Path, spec: FeatureSpec) -> JsonObject:
    """What the clip's media holds; `InputError` where the manifest has no such clip."""
    clips = read_manifest(manifest)
    for clip in clips.clips:
        if clip.id == clip_id:
            return SourceDigests().of(clips.source(clip), MODALITY[spec.kind])
    raise InputError(f"{manifest} has no clip {clip_id!r}")


def differences(path: str, old: Any, new: Any) -> Iterator[FieldDifference]:
    """Every leaf that differs, by dotted path, in order."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            there = (each.get(key, ABSENT) for each in (old, new))
            yield from differences(f"{path}.{key}", *there)
    elif old != new:
        yield FieldDifference(path, _spelled(old), _spelled(new))


def _spelled(value: Any) -> str:
    return value if value == ABSENT else json.dumps(value, sort_keys=True)


def as_json(found: tuple[Why, ...]) -> JsonObject:
    """The answer as `why --json` prints it."""
    return {"sets": [asdict(each) for each in found]}


def render_why(found: tuple[Why, ...]) -> Iterator[str]:
    """The answer for a person, line by line."""
    for each in found:
        if each.state == "complete" and not each.differences:
            said = "complete: nothing differs" + (f" ({each.reason})" if each.reason else "")
        else:
            said = f"{each.state}: {each.reason}"
        made = f"; it was extracted because: {each.made_because}" if each.made_because else ""
        yield f"{each.spec}: {said}{made}"
        yield from (f"  {d.field}: {d.old} -> {d.new}" for d in each.differences)
        for other, differs in each.others.items():
            yield f"  from {other} to {each.spec}:"
            yield from (f"    {d.field}: {d.old} -> {d.new}" for d in differs)
