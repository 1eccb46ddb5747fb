"""One clip's record in a feature store: a zarr group whose attributes commit its files."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from features.durable import sha256_of, sync_tree
from features.errors import LaterVersion, StoreError
from features.records import JsonObject, Track
from features.spec import canonical

CHUNK_BYTES = 4 * 2**20  # a chunk is read whole, and a fault in it costs at most this much
METADATA = "zarr.json"


@dataclass(frozen=True, slots=True)
class Commit:
    """What a record says of itself."""

    source: JsonObject
    """Content of the media it was made from: a digest per part."""
    files: dict[str, str]
    """sha256 of every other file of the record, by path inside it."""
    provenance: JsonObject
    """Who made it, with what; decides no number."""
    note: str | None
    """Why the record is empty, if it is."""
    digest: str
    """Of all of the above."""


def read_commit(folder: Path) -> Commit | None:
    """The commit in a record's folder, or None where there is none.

    `StoreError` where it is damaged, `LaterVersion` where it says what we do not know.
    """
    path = folder / METADATA
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        attributes = dict(json.loads(raw)["attributes"])
        digest = attributes.pop("digest")
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({error}); extract the clip again") from None
    if raw != group_metadata({**attributes, "digest": _digest(attributes)}):
        raise StoreError(f"{path} is not what was committed; extract the clip again")
    try:
        return Commit(**attributes, digest=digest)
    except TypeError:
        known = ", ".join(sorted(set(attributes) ^ {*Commit.__slots__} - {"digest"}))
        raise LaterVersion(
            f"{path} was committed by another vaflow, which says more or less of a record "
            f"({known}); use that one, or another store"
        ) from None


def read_track(folder: Path, commit: Commit) -> Track:
    """The track in a record's folder; `ValueError`, `KeyError` or `OSError` where it is damaged."""
    for name, digest in commit.files.items():
        # zarr reads a missing chunk as fill and overlooks a flipped bit of metadata
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
        if name.endswith(METADATA) and sha256_of(folder / name) != digest:
            raise ValueError(f"{name} was changed")
    group = zarr.open_group(folder, mode="r")
    arrays = {name: np.asarray(array[...]) for name, array in group.arrays()}
    return Track(arrays["values"], arrays["time_s"], arrays["valid"])


def stage(
    folder: Path,
    track: Track,
    source: JsonObject,
    provenance: JsonObject,
    note: str | None,
) -> Commit:
    """Write a whole record at a place where nobody looks, and have the disk keep it."""
    group = zarr.open_group(folder, mode="w-")
    _add_array(group, "values", track.values, fill=float("nan"))
    _add_array(group, "time_s", track.time_s, fill=float("nan"))
    _add_array(group, "valid", track.valid, fill=False)
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / METADATA
    }
    attributes: JsonObject = {
        "source": source,
        "files": dict(files),
        "provenance": provenance,
        "note": note,
    }
    digest = _digest(attributes)
    (folder / METADATA).write_bytes(group_metadata({**attributes, "digest": digest}))
    sync_tree(folder)
    return Commit(source, files, provenance, note, digest)


def _add_array(group: zarr.Group, name: str, values: np.ndarray, *, fill: float | bool) -> None:
    """Write an array uncompressed (it would gain 7 %) with a checksum on every chunk."""
    row_bytes = values.dtype.itemsize * int(np.prod(values.shape[1:]))
    rows = max(1, min(len(values), CHUNK_BYTES // row_bytes))
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=(rows, *values.shape[1:]),
        dtype=values.dtype,
        filters=None,
        serializer=BytesCodec(),
        compressors=[Crc32cCodec()],
        fill_value=fill,
        config={"write_empty_chunks": True},  # else zeros are not stored, and look like a loss
    )
    if len(values):
        array[:] = values


def group_metadata(attributes: JsonObject) -> bytes:
    """The canonical zarr.json of a group."""
    return canonical({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _digest(attributes: JsonObject) -> str:
    """sha256 of a commit's canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(attributes)).hexdigest()


def attributes_in(metadata: Path) -> JsonObject:
    """The attributes in a zarr.json."""
    try:
        attributes = json.loads(metadata.read_bytes())["attributes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{metadata} cannot be read ({error}); restore it, or move its folder out of the way"
        ) from None
    if not isinstance(attributes, dict):
        raise StoreError(f"{metadata} has attributes that are no object; restore it")
    return attributes
