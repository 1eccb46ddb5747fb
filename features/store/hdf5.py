"""A feature store as one HDF5 file and back, bit for bit.

    /                    attributes: format, version
    /<feature set>       group; dataset `spec`: the full spec, JSON
        /<clip id>       group
            values       (T, D) float16     0 where not valid; float32 for faces
            time_s       (T,) float64       presentation time of each row, seconds
            valid        (T,) bool          false where the encoder had no input
            commit       JSON: source (digests of the media), provenance, note, files (sha256 of
                         each file of the record in the store), digest

JSON is a scalar string of fixed length in UTF-8. Every other dataset is uncompressed and, unless it
is empty, chunked with a checksum (fletcher32). The import checks all of this before it reads an
array, since a file may come from an untrusted source.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from pydantic import ValidationError

from features.canonical_json import JsonObject, canonical, parse_object
from features.clip import Track
from features.errors import InputError, StoreError, one_line
from features.spec import FeatureSpec
from features.store.commit import make_commit
from features.store.feature_store import CLIP_NAME, SET_NAME, FeatureStore
from features.store.layout import (
    ARRAYS,
    CHUNK_BYTES,
    MAX_METADATA_BYTES,
    MAX_ROWS,
    MAX_TRACK_BYTES,
    MAX_WIDTH,
    chunk_shape_of,
)
from features.system.files import replacing
from features.system.signals import deferring_signals

FORMAT = "vaflow-features-hdf5"
VERSION = 1
# what h5py raises for a damaged file, and this module for one of another form
DAMAGE = (OSError, StoreError, KeyError, RuntimeError, ValueError, TypeError, ValidationError)
CHECKSUM = int(h5py.h5z.FILTER_FLETCHER32)  # the only filter allowed: it expands nothing


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The records of an import, as `<feature set>/<clip id>`."""

    written: tuple[str, ...]
    present: tuple[str, ...]
    """Records that the store has already."""
    kept: tuple[str, ...]
    """Clips of which the store has another record, which stays."""


def export_h5(path: str, output: Path, clips: Collection[str] | None = None) -> int:
    """Write a store, or its records of these clips, to one file; returns the number of records.

    The file appears whole or not at all. Raises `StoreError` if a record is damaged or a clip has
    none, `InputError` if there is no store.
    """
    store, n_records = FeatureStore.open(path), 0
    with (
        deferring_signals(),
        replacing(output) as part,
        h5py.File(part, "x", libver="v110") as file,
    ):
        file.attrs.update({"format": FORMAT, "version": VERSION})
        for name, spec in store.feature_sets().items():
            group = file.create_group(name)
            _write_json(group, "spec", spec.model_dump(mode="json"))
            for clip in sorted(clips) if clips is not None else store.clip_ids(name):
                _write_record(group.create_group(clip), store, name, clip)
                n_records += 1
    return n_records


def _write_json(group: h5py.Group, name: str, value: JsonObject) -> None:
    group.create_dataset(name, data=np.bytes_(canonical(value)))


def _write_record(group: h5py.Group, store: FeatureStore, set_name: str, clip_id: str) -> None:
    track, commit = store.read(set_name, clip_id), store.commit(set_name, clip_id)
    assert commit is not None  # `read` raises if there is none
    arrays = {"values": track.values, "time_s": track.time_s, "valid": track.valid}
    for name, values in arrays.items():
        chunks = {"chunks": chunk_shape_of(values), "fletcher32": True} if len(values) else {}
        group.create_dataset(name, data=values, **chunks)
    _write_json(group, "commit", asdict(commit))


def import_h5(source: Path, path: str) -> ImportResult:
    """Copy the records of an exported file to a store, which is created if there is none.

    A record in the store is never replaced, and a damaged one is not imported. Raises `InputError`
    if the file is damaged or not an export.
    """
    if not h5py.is_hdf5(source):
        raise InputError(f"{source} is no HDF5 file; `vaflow export` writes one")
    results: dict[str, list[str]] = {"written": [], "present": [], "kept": []}
    try:
        with h5py.File(source, "r", locking=False) as file:
            _check_format(file, source)
            store = FeatureStore.open_or_plan(path)
            for set_name, group in _groups(file, SET_NAME):
                spec = FeatureSpec.model_validate(_read_json(group, "spec"))
                if spec.name != set_name:
                    raise ValueError(f"the group {set_name} holds the spec of {spec.name}")
                store.create()
                for clip_id, record in _groups(group, CLIP_NAME, beside="spec"):
                    result = _import_record(store, spec, clip_id, record)
                    results[result].append(f"{set_name}/{clip_id}")
    except DAMAGE as error:
        if isinstance(error, OSError) and error.filename not in (None, str(source)):
            raise
        raise InputError(
            f"{source} is damaged, or not as `vaflow export` writes it ({one_line(error)}); export "
            "it again"
        ) from error
    return ImportResult(*(tuple(results[key]) for key in ("written", "present", "kept")))


def _check_format(file: h5py.File, source: Path) -> None:
    """Raise `InputError` if the file is no export; an attribute is read only if its type fits."""
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


def _groups(
    group: h5py.Group, pattern: re.Pattern[str], beside: str = ""
) -> Iterator[tuple[str, h5py.Group]]:
    """The groups in a group, by name; raises `ValueError` for anything else but `beside`."""
    for name in map(str, group):
        if name == beside:
            continue
        member = _member(group, name)
        if not isinstance(member, h5py.Group) or not pattern.fullmatch(name):
            raise ValueError(f"{group.name} holds {name!r}, which does not belong there")
        yield name, member


def _member(group: h5py.Group, name: str) -> Any:
    """A member of a group; raises `ValueError` if it is missing or a link to elsewhere."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{group.name}/{name} is missing, or a link to elsewhere")
    return group[name]


def _read_json(group: h5py.Group, name: str) -> JsonObject:
    """The JSON object in a dataset; raises `ValueError` if it is missing, invalid or too large."""
    dataset = _member(group, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "S" or dataset.shape != ():
        raise ValueError(f"{group.name}/{name} is no text")
    _check_storage(dataset, dataset.dtype.itemsize, MAX_METADATA_BYTES)
    return parse_object(bytes(dataset[()]))


def _check_storage(dataset: h5py.Dataset, n_bytes: int, max_bytes: int) -> None:
    """Raise `ValueError` if a dataset is too large, compressed, or not all in this file."""
    settings = dataset.id.get_create_plist()
    filters = {settings.get_filter(k)[0] for k in range(settings.get_nfilters())}
    if filters - {CHECKSUM}:
        raise ValueError(f"{dataset.name} is compressed; an export is not")
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{dataset.name} lies in other files")
    if n_bytes > max_bytes or dataset.id.get_storage_size() < n_bytes:
        raise ValueError(
            f"{dataset.name} claims {n_bytes} bytes and stores {dataset.id.get_storage_size()}; at "
            f"most {max_bytes} are read"
        )


def _read_array(group: h5py.Group, name: str, dtype: str) -> np.ndarray:
    """An array of a record; raises `ValueError` before reading if its layout is not valid."""
    dataset, schema = _member(group, name), ARRAYS[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype != np.dtype(dtype):
        raise ValueError(f"{group.name}/{name} is no array of {dtype}")
    shape: list[int] = list(dataset.shape or ())
    if len(shape) != schema.n_axes or shape[0] > MAX_ROWS or max(shape[1:], default=0) > MAX_WIDTH:
        raise ValueError(f"{group.name}/{name} has the shape {shape}")
    if dataset.chunks and prod(dataset.chunks) * dataset.dtype.itemsize > CHUNK_BYTES:
        raise ValueError(f"{group.name}/{name} has chunks of {dataset.chunks}")
    _check_storage(dataset, prod(shape) * dataset.dtype.itemsize, MAX_TRACK_BYTES)
    return dataset[...]


def _import_record(
    store: FeatureStore, spec: FeatureSpec, clip_id: str, record: h5py.Group
) -> Literal["written", "present", "kept"]:
    """Write one record unless the store has one; returns the field of `ImportResult` for it."""
    if unknown := set(record) - {*ARRAYS, "commit"}:
        raise ValueError(f"{record.name} holds {min(unknown)!r}, which does not belong there")
    fields = _read_json(record, "commit")
    digest = fields.pop("digest")
    commit = make_commit(**fields)
    if commit.digest != digest:
        raise ValueError(f"{record.name}/commit is not what was exported")
    try:
        stored = store.commit(spec.name, clip_id)
    except StoreError:
        stored = None  # damaged: the import repairs it
    if stored is not None:
        return "present" if stored.digest == commit.digest else "kept"
    dtypes = {"values": spec.stored, "time_s": "float64", "valid": "bool"}
    track = Track(*(_read_array(record, *each) for each in dtypes.items()))
    store.write(
        spec,
        clip_id,
        track,
        source=commit.source,
        provenance=commit.provenance,
        note=commit.note,
        expected=commit.files,
    )
    return "written"
