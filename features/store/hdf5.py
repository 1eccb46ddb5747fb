"""A feature store as one HDF5 file and back, bit for bit.

    /                    attributes: format, version
    /<feature set>       group; dataset `spec`: the full spec, JSON
        /<clip id>       group
            values       (T, D) float16     0 where not valid
            time_s       (T,) float64       presentation time of each row, seconds
            valid        (T,) bool          false where the encoder had nothing to see or hear
            commit       JSON: source (digests of the media), provenance, note, files (sha256 of
                         each file of the record in the store), digest

JSON is a scalar text of fixed length in UTF-8. Every other dataset is uncompressed and, unless it
is empty, chunked with a checksum (fletcher32). A file from elsewhere is held to this before an
array is read.
"""

import os
import uuid
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from pydantic import ValidationError

from features.canonical_json import JsonObject, canonical, parse_object
from features.clip import Track
from features.errors import InputError, StoreError
from features.maintenance.listing import clip_ids
from features.spec import FeatureSpec
from features.store.commit import Commit, make_commit
from features.store.feature_store import CLIP_NAME, SET_NAME, FeatureStore
from features.store.layout import (
    ARRAYS,
    CHUNK_BYTES,
    MAX_METADATA_BYTES,
    MAX_ROWS,
    MAX_TRACK_BYTES,
    MAX_WIDTH,
)
from features.system.files import errors_name, sync_folder
from features.system.signals import deferring_signals

FORMAT = "vaflow-features-hdf5"
VERSION = 1
# what h5py raises on a damaged file, and what we raise on one that is not as it should be
DAMAGE = (OSError, StoreError, KeyError, RuntimeError, ValueError, TypeError, ValidationError)
CHECKSUM = int(h5py.h5z.FILTER_FLETCHER32)  # the one filter: it expands nothing


@dataclass(frozen=True, slots=True)
class ImportResult:
    """How an import ended, by place in the store (`<feature set>/<clip id>`)."""

    written: tuple[str, ...]
    present: tuple[str, ...]
    """The same record was there."""
    kept: tuple[str, ...]
    """Another record was there; it was left."""


def export_h5(path: str, output: Path, clips: Collection[str] | None = None) -> int:
    """Write a store, or what it holds of these clips, into one file; returns how many records.

    The file comes to be whole or not at all. `StoreError` where a record is damaged or a clip has
    none, `InputError` where there is no store.
    """
    store = FeatureStore.open(path)
    part = output.with_name(f".{output.name}.{uuid.uuid4().hex}.part")
    n_records = 0
    with deferring_signals(), errors_name(output):
        try:
            with h5py.File(part, "x", libver="v110") as file:
                file.attrs.update({"format": FORMAT, "version": VERSION})
                for name, spec in store.feature_sets().items():
                    group = file.create_group(name)
                    _put_json(group, "spec", spec.model_dump(mode="json"))
                    for clip in sorted(clips) if clips is not None else clip_ids(store, name):
                        _put_record(group.create_group(clip), store, name, clip)
                        n_records += 1
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(output)
            sync_folder(output.parent)
        finally:
            part.unlink(missing_ok=True)
    return n_records


def _put_json(group: h5py.Group, name: str, value: JsonObject) -> None:
    group.create_dataset(name, data=np.bytes_(canonical(value)))


def _put_record(group: h5py.Group, store: FeatureStore, set_name: str, clip_id: str) -> None:
    """One record, read with all its checks."""
    track, commit = store.read(set_name, clip_id), store.commit(set_name, clip_id)
    assert commit is not None  # it was read
    for name in ARRAYS:
        values: np.ndarray = getattr(track, name)
        row_bytes = values.dtype.itemsize * prod(values.shape[1:])
        chunks = (min(len(values), CHUNK_BYTES // row_bytes), *values.shape[1:])
        settings = {"chunks": chunks, "fletcher32": True} if len(values) else {}
        group.create_dataset(name, data=values, **settings)
    _put_json(group, "commit", asdict(commit))


def import_h5(source: Path, path: str) -> ImportResult:
    """Bring the records of an exported file into a store, which comes to be where there is none.

    What is there already stays. `InputError` where the file is none of ours, or damaged: nothing of
    the damaged record is written.
    """
    if not source.is_file() or not h5py.is_hdf5(source):
        raise InputError(f"{source} is no HDF5 file; give one that `vaflow export` wrote")
    ends: dict[str, list[str]] = {"written": [], "present": [], "kept": []}
    try:
        with h5py.File(source, "r", locking=False) as file:
            _refuse_other_formats(file, source)
            store = FeatureStore.at(path)
            for set_name, group in _groups(file, SET_NAME):
                spec = _spec(group, set_name)
                store.found()
                for clip_id, record in _groups(group, CLIP_NAME, beside="spec"):
                    ends[_taken(store, spec, clip_id, record)].append(f"{set_name}/{clip_id}")
    except DAMAGE as error:
        if isinstance(error, OSError) and error.filename not in (None, str(source)):
            raise
        words = " ".join(str(error).split())[:300]
        raise InputError(
            f"{source} is damaged, or not as `vaflow export` writes it ({words}); export it again"
        ) from error
    return ImportResult(*(tuple(ends[key]) for key in ("written", "present", "kept")))


def _refuse_other_formats(file: h5py.File, source: Path) -> None:
    """`InputError` where the file is none of ours; its attributes are looked at before read."""
    for name, kind in (("format", "O"), ("version", "i")):
        if name not in file.attrs or file.attrs.get_id(name).dtype.kind != kind:
            raise InputError(f"{source} is no export of a feature store: it has no {name}")
    if file.attrs["format"] != FORMAT:
        raise InputError(f"{source} is no export of a feature store; `vaflow export` writes one")
    if file.attrs["version"] != VERSION:
        raise InputError(
            f"{source} is an export of version {file.attrs['version']}, this vaflow reads version "
            f"{VERSION}; use the vaflow that wrote it"
        )


def _groups(group: h5py.Group, pattern: Any, beside: str = "") -> Iterator[tuple[str, h5py.Group]]:
    """The groups in a group, by name; `ValueError` where there is a link elsewhere, or more."""
    for name in map(str, group):
        if name == beside:
            continue
        found = _inside(group, name)
        if not isinstance(found, h5py.Group) or not pattern.fullmatch(name):
            raise ValueError(f"{group.name} holds {name!r}, which does not belong there")
        yield name, found


def _inside(group: h5py.Group, name: str) -> Any:
    """What lies in a group under a name; `ValueError` where that is a link to elsewhere."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{group.name}/{name} is missing, or a link to elsewhere")
    return group[name]


def _spec(group: h5py.Group, name: str) -> FeatureSpec:
    """The spec of a feature set; `ValueError` where it is not the one of this name."""
    spec = FeatureSpec.model_validate(_json(group, "spec"))
    if spec.name != name:
        raise ValueError(f"the group {name} holds the spec of {spec.name}")
    return spec


def _json(group: h5py.Group, name: str) -> JsonObject:
    """The JSON object in a dataset; `ValueError` where there is none of bounded size."""
    found = _inside(group, name)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind != "S" or found.shape != ():
        raise ValueError(f"{group.name}/{name} is no text")
    _refuse_elsewhere(found, found.dtype.itemsize, MAX_METADATA_BYTES)
    return parse_object(bytes(found[()]))


def _refuse_elsewhere(found: h5py.Dataset, n_bytes: int, at_most: int) -> None:
    """`ValueError` where a dataset is too large, compressed, or not all in this very file."""
    settings = found.id.get_create_plist()
    filters = {settings.get_filter(k)[0] for k in range(settings.get_nfilters())}
    if filters - {CHECKSUM}:
        raise ValueError(f"{found.name} is compressed; an export is not")
    if found.external or found.is_virtual:
        raise ValueError(f"{found.name} lies in other files")
    if n_bytes > at_most or found.id.get_storage_size() < n_bytes:
        raise ValueError(
            f"{found.name} claims {n_bytes} bytes and stores {found.id.get_storage_size()}; at "
            f"most {at_most} are read"
        )


def _array(group: h5py.Group, name: str) -> np.ndarray:
    """One array of a record; `ValueError` where its type or shape is another, before it is read."""
    found, kind = _inside(group, name), ARRAYS[name]
    if not isinstance(found, h5py.Dataset) or found.dtype != np.dtype(kind.dtype):
        raise ValueError(f"{group.name}/{name} is no array of {kind.dtype}")
    shape: list[int] = list(found.shape or ())
    if len(shape) != kind.n_axes or shape[0] > MAX_ROWS or max(shape[1:], default=0) > MAX_WIDTH:
        raise ValueError(f"{group.name}/{name} has the shape {shape}")
    if found.chunks and prod(found.chunks) * kind.item_bytes > CHUNK_BYTES:
        raise ValueError(f"{group.name}/{name} has chunks of {found.chunks}")
    _refuse_elsewhere(found, prod(shape) * kind.item_bytes, MAX_TRACK_BYTES)
    return found[...]


def _taken(store: FeatureStore, spec: FeatureSpec, clip_id: str, record: h5py.Group) -> str:
    """Write one record, unless one is there; returns which list of `ImportResult` it belongs to."""
    if odd := set(record) - {*ARRAYS, "commit"}:
        raise ValueError(f"{record.name} holds {min(odd)!r}, which does not belong there")
    said = _commit(record)
    try:
        there = store.commit(spec.name, clip_id)
    except StoreError:
        there = None  # damaged: the import is its repair
    if there is not None:
        return "present" if there.digest == said.digest else "kept"
    track = Track(*(_array(record, name) for name in ("values", "time_s", "valid")))
    store.write(
        spec,
        clip_id,
        track,
        source=said.source,
        provenance=said.provenance,
        note=said.note,
        expected=said.files,
    )
    return "written"


def _commit(record: h5py.Group) -> Commit:
    """What the store said of a record; `ValueError` where its own digest does not hold."""
    fields = _json(record, "commit")
    digest = fields.pop("digest")
    commit = make_commit(**fields)
    if commit.digest != digest:
        raise ValueError(f"{record.name}/commit is not what was exported")
    return commit
