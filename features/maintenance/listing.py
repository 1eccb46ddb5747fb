"""What a store holds, for a person: its feature sets, its clips, one clip in full."""

from collections.abc import Iterator
from dataclasses import dataclass

from features.canonical_json import JsonObject
from features.errors import InputError
from features.spec import MODALITY
from features.store.feature_store import FeatureStore
from features.store.layout import ArrayLayout, array_layout


@dataclass(frozen=True, slots=True)
class SetListing:
    """One feature set: how many records of how many bytes, and its clips."""

    spec: str
    modality: str
    model: str
    """The model's name, as far as the spec tells it."""
    clips: tuple[str, ...]
    n_bytes: int


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """One clip in one feature set."""

    spec: str
    n_rows: int
    width: int
    n_bytes: int
    n_files: int
    digest: str
    note: str | None
    source: JsonObject
    provenance: JsonObject
    fault: str
    """Why the record cannot be read; the numbers are 0 then."""


def listing(path: str) -> tuple[SetListing, ...]:
    """The feature sets of a store; `InputError` where there is none."""
    store = FeatureStore.open(path)
    return tuple(
        SetListing(
            name,
            MODALITY.get(spec.kind, "unknown"),
            str(spec.model.get("name", "")),
            tuple(clips := store.clip_ids(name)),
            sum(store.header(name, clip).n_bytes for clip in clips),
        )
        for name, spec in store.feature_sets().items()
    )


def info(path: str, clip_id: str) -> tuple[ClipInfo, ...]:
    """What each feature set holds of a clip; `InputError` where none does."""
    store = FeatureStore.open(path)
    found = tuple(_of_set(store, name, clip_id) for name in store.feature_sets())
    there = tuple(each for each in found if each)
    if not there:
        raise InputError(f"{path} has no features of a clip {clip_id!r}; `vaflow ls {path}` lists")
    return there


def _of_set(store: FeatureStore, name: str, clip_id: str) -> ClipInfo | None:
    """The clip in one set, or None where it is not there."""
    seen = store.header(name, clip_id)
    if seen.commit is None and not seen.fault:
        return None
    if seen.commit is None:
        return ClipInfo(name, 0, 0, 0, 0, "", None, {}, {}, seen.fault)
    commit, form = seen.commit, _values_form(store, name, clip_id)
    return ClipInfo(
        spec=name,
        n_rows=form.shape[0],
        width=form.shape[1],
        n_bytes=seen.n_bytes,
        n_files=len(commit.files) + 1,
        digest=commit.digest,
        note=commit.note,
        source=commit.source,
        provenance=commit.provenance,
        fault="",
    )


def _values_form(store: FeatureStore, name: str, clip_id: str) -> ArrayLayout:
    """Shape and chunks of a record's values; `StoreError` where they are not as we write them."""
    metadata = store.backend.metadata(f"{store.record_name(name, clip_id)}/values")
    return array_layout("values", metadata or b"")


def leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON object, by dotted path."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, "null" if value is None else str(value)
