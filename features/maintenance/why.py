"""Why the features of one clip are in their state, field by field."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from features.canonical_json import FieldDifference, JsonObject, differences
from features.clip import Source
from features.errors import InputError, MediaError
from features.freshness.clip_state import State, clip_state, compare_media
from features.freshness.media_digests import SourceDigests
from features.manifest.manifest import read_manifest
from features.media.decoder_version import decoder_version
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore


@dataclass(frozen=True, slots=True)
class Why:
    """The state of the clip in one feature set, and the reason."""

    spec: str
    """Name of the feature set."""
    state: State
    reason: str
    made_because: str
    """Why the record was extracted; empty if that is not recorded."""
    differences: tuple[FieldDifference, ...]
    """From the media of the record to the media of the manifest."""
    others: dict[str, tuple[FieldDifference, ...]]
    """From each other feature set of the same kind, by name, to this one."""


def why(store: str, clip_id: str, manifest: Path | None = None) -> tuple[Why, ...]:
    """Return the state of the clip in each feature set of the store, and the reason.

    Without a manifest the media is not compared. Raises `InputError` if the manifest, or without
    one every feature set, lacks the clip.
    """
    opened = FeatureStore.open(store)
    sets = opened.feature_sets()
    source = None
    if manifest is not None:
        clips = read_manifest(manifest)
        source = next((clips.source(clip) for clip in clips.clips if clip.id == clip_id), None)
        if source is None:
            raise InputError(f"{manifest} has no clip {clip_id!r}")
    answers = tuple(_why_in_set(opened, sets, name, clip_id, source) for name in sets)
    if manifest is None and all(each.state == "missing" for each in answers):
        raise InputError(
            f"{store} has no record of clip {clip_id!r}; `vaflow ls {store}` lists its clips"
        )
    return answers


def _why_in_set(
    store: FeatureStore, sets: dict[str, FeatureSpec], name: str, clip_id: str, media: Source | None
) -> Why:
    spec, source, is_known = sets[name], None, sets[name].modality is not None
    decoder = decoder_version()
    if media is None or not is_known:
        state = clip_state(store, name, clip_id, None, decoder)
    else:
        with closing(SourceDigests()) as digests:
            state, source = compare_media(store, spec, clip_id, media, digests, decoder)
    reason = state.reason
    if state.state == "complete" and not is_known:
        reason = f"its media was not compared: this vaflow does not know the kind {spec.kind!r}"
    commit = store.header(name, clip_id).commit
    changes: tuple[FieldDifference, ...] = ()
    if commit and source is not None and not isinstance(source, MediaError):
        changes = tuple(differences("source", commit.source, source))
    others = {
        other: tuple(differences("spec", sets[other].model_dump(), spec.model_dump()))
        for other in sets
        if other != name and sets[other].kind == spec.kind
    }
    made_because = str(commit.provenance.get("reason", "")) if commit else ""
    return Why(name, state.state, reason, made_because, changes, others)


def as_json(answers: tuple[Why, ...]) -> JsonObject:
    """Return the answer as `why --json` prints it."""
    return {"sets": [asdict(each) for each in answers]}


def render_why(answers: tuple[Why, ...]) -> Iterator[str]:
    """Yield the lines of the answer for a person."""
    for each in answers:
        if each.state == "complete" and not each.differences:
            answer = "complete: nothing differs" + (f" ({each.reason})" if each.reason else "")
        else:
            answer = f"{each.state}: {each.reason}"
        reason = f"; it was extracted because: {each.made_because}" if each.made_because else ""
        yield f"{each.spec}: {answer}{reason}"
        yield from (f"  {d.field}: {d.old} -> {d.new}" for d in each.differences)
        for other, changes in each.others.items():
            yield f"  from {other} to {each.spec}:"
            yield from (f"    {d.field}: {d.old} -> {d.new}" for d in changes)
