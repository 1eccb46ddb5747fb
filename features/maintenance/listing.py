"""Lists the feature sets and clips of a store, or one clip in detail."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from features.canonical_json import JsonObject
from features.errors import InputError
from features.store.feature_store import FeatureStore
from features.store.layout import array_layout


@dataclass(frozen=True, slots=True)
class SetListing:
    """One feature set."""

    spec: str
    """Name of the feature set."""
    modality: str
    model: str
    """Name of the encoder's model; empty if the spec has none."""
    clips: tuple[str, ...]
    n_bytes: int
    """Size of all records."""


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """One clip in one feature set."""

    spec: str
    """Name of the feature set."""
    n_rows: int = 0
    width: int = 0
    n_bytes: int = 0
    n_files: int = 0
    digest: str = ""
    note: str | None = None
    source: JsonObject = field(default_factory=dict)
    provenance: JsonObject = field(default_factory=dict)
    fault: str = ""
    """Why the record cannot be read, in which case all numbers are 0; else empty."""


def listing(path: str) -> tuple[SetListing, ...]:
    """Return the feature sets of a store; raise `InputError` if there is no store."""
    store = FeatureStore.open(path)
    return tuple(
        SetListing(
            name,
            spec.modality or "unknown",
            str(spec.model.get("name", "")),
            tuple(clips := store.clip_ids(name)),
            sum(store.header(name, clip).n_bytes for clip in clips),
        )
        for name, spec in store.feature_sets().items()
    )


def info(path: str, clip_id: str) -> tuple[ClipInfo, ...]:
    """Return the clip in each feature set that has it; raise `InputError` if none has."""
    store = FeatureStore.open(path)
    headers = {name: store.header(name, clip_id) for name in store.feature_sets()}
    infos: list[ClipInfo] = []
    for name, header in headers.items():
        if header.fault:
            infos.append(ClipInfo(name, fault=header.fault))
        elif commit := header.commit:
            metadata = store.backend.metadata(f"{store.record_name(name, clip_id)}/values")
            n_rows, width = array_layout("values", metadata or b"").shape
            about = commit.digest, commit.note, commit.source, commit.provenance
            sizes = n_rows, width, header.n_bytes, len(commit.files) + 1
            infos.append(ClipInfo(name, *sizes, *about))
    if not infos:
        raise InputError(
            f"{path} has no features of clip {clip_id!r}; `vaflow ls {path}` lists its clips"
        )
    return tuple(infos)


def leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every leaf of a JSON value, by dotted path."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, "null" if value is None else str(value)
