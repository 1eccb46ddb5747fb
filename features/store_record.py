"""One clip's record in a feature store: a zarr group whose attributes commit its files."""

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import zarr
from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError
from zarr.codecs import BytesCodec, Crc32cCodec

from features.durable import sha256_of, sync_tree
from features.errors import LaterVersion, StoreError
from features.record_form import (
    ARRAYS,
    CHUNK_BYTES,
    FILE_PATTERN,
    METADATA,
    check_forms,
    files_in,
    parse_object,
    read_metadata,
)
from features.records import JsonObject, Track
from features.spec import canonical

# how a commit begins and ends: `digest` is the first of its keys, so the rest can be held to it as
# it stands, without being spelled anew (100,000 of them for one `vaflow status`)
_HEAD = b'{"attributes":{"digest":"'
_TAIL = b'},"node_type":"group","zarr_format":3}'
_REST = len(_HEAD) + 64 + len('",')  # behind the hexadecimal digits of the digest


FileName = Annotated[str, StringConstraints(pattern=FILE_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class Commit:
    """What a record says of itself."""

    source: JsonObject
    """Content of the media it was made from: a digest per part."""
    files: dict[FileName, Sha256]
    """sha256 of every other file of the record, by path inside it."""
    provenance: JsonObject
    """Who made it, with what; decides no number."""
    note: str | None
    """Why the record is empty, if it is."""
    digest: Sha256
    """Of all of the above."""


@dataclass(frozen=True, slots=True)
class _Group:
    """The zarr.json of a record."""

    attributes: Commit
    node_type: Literal["group"]
    zarr_format: Literal[3]

    __pydantic_config__ = ConfigDict(extra="forbid")  # of the commit in it, too


_COMMIT: TypeAdapter[Commit] = TypeAdapter(Commit)
_GROUP: TypeAdapter[_Group] = TypeAdapter(_Group)


def read_commit(folder: Path | str) -> Commit | None:
    """The commit in a record's folder, or None where there is none.

    `StoreError` where it is damaged or none of ours, `LaterVersion` where it says what we do not
    know.
    """
    path = f"{folder}/{METADATA}"
    if os.path.islink(folder):
        raise StoreError(f"{folder} is a link; a store holds files and folders only")
    try:
        raw = read_metadata(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return commit_in(raw, path)


def commit_in(raw: bytes, path: str) -> Commit:
    """The commit in the bytes of a record's zarr.json, which lies at `path`; raises alike."""
    if _is_spelled_as_ours(raw):
        try:
            return _GROUP.validate_json(raw).attributes
        except ValidationError:
            pass  # what is odd about it is told below
    try:
        attributes = dict(parse_object(raw)["attributes"])
        digest = attributes.pop("digest")
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({error}); extract the clip again") from None
    if raw != group_metadata({**attributes, "digest": _digest(attributes)}):
        raise StoreError(f"{path} is not what was committed; extract the clip again")
    if other := sorted(set(attributes) ^ {*Commit.__slots__} - {"digest"}):
        raise LaterVersion(
            f"{path} was committed by another vaflow, which says more or less of a record "
            f"({', '.join(other)}); use that one, or another store"
        )
    try:
        return _COMMIT.validate_python({**attributes, "digest": digest})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise StoreError(
            f"{path} commits what no record of vaflow has ({'.'.join(map(str, first['loc']))} = "
            f"{first['input']!r}); extract the clip again"
        ) from None


def _is_spelled_as_ours(raw: bytes) -> bool:
    """Whether bytes begin and end as a commit of ours, with a digest that holds for the rest."""
    if not (raw.startswith(_HEAD) and raw.endswith(_TAIL)):
        return False
    said, rest = raw[len(_HEAD) : _REST], raw[_REST : -len(_TAIL)]
    return said == f'{hashlib.sha256(b"{" + rest + b"}").hexdigest()}",'.encode()


def read_track(folder: Path, commit: Commit) -> Track:
    """The track in a record's folder; raises as `open_arrays` where it is damaged."""
    arrays = {name: np.asarray(a[...]) for name, a in open_arrays(folder, commit).items()}
    return Track(arrays["values"], arrays["time_s"], arrays["valid"])


def open_arrays(folder: Path, commit: Commit) -> dict[str, zarr.Array]:
    """The arrays in a record's folder, which is held to its form before zarr opens it.

    `StoreError`, `ValueError`, `KeyError` or `OSError` where it is damaged or none of ours; so
    may whoever reads them find a chunk.
    """
    sizes = files_in(folder)
    for name, digest in commit.files.items():
        # zarr reads a missing chunk as fill and overlooks a flipped bit of metadata
        if name not in sizes:
            raise ValueError(f"{name} is missing")
        if name.endswith(METADATA) and sha256_of(folder / name) != digest:
            raise ValueError(f"{name} was changed")
    if check_forms(folder, sizes) != set(commit.files):
        raise ValueError("the commit names other files than such a record has")
    return {name: zarr.open_array(folder / name, mode="r") for name in ARRAYS}


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
    commit = commit_of(source, files, provenance, note)
    (folder / METADATA).write_bytes(commit_metadata(commit))
    sync_tree(folder)
    return commit


def commit_of(
    source: JsonObject, files: dict[str, str], provenance: JsonObject, note: str | None
) -> Commit:
    """The commit that says this, with its own digest."""
    said = {"source": source, "files": files, "provenance": provenance, "note": note}
    return Commit(source, files, provenance, note, _digest(said))


def refuse_other_chunks(commit: Commit, expected: dict[str, str]) -> None:
    """`StoreError` where the chunks are not these; how zarr spells metadata may be another."""
    if other := sorted(
        name
        for name in commit.files.keys() | expected.keys()
        if not name.endswith(METADATA) and commit.files.get(name) != expected.get(name)
    ):
        raise StoreError(f"{other[0]} is not what its record says it was; get it once more")


def commit_metadata(commit: Commit) -> bytes:
    """The canonical zarr.json of a record."""
    return group_metadata(asdict(commit))


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


def attributes_in(raw: bytes, path: str) -> JsonObject:
    """The attributes in the bytes of a zarr.json, which lies at `path`."""
    try:
        attributes = parse_object(raw)["attributes"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}); restore it, or move its folder out of the way"
        ) from None
    if not isinstance(attributes, dict):
        raise StoreError(f"{path} has attributes that are no object; restore it")
    return attributes


def refuse_unless_canonical(raw: bytes, path: str, attributes: JsonObject) -> None:
    """`StoreError` where a group's zarr.json is not the one spelling of these attributes."""
    if raw != group_metadata(attributes):
        raise StoreError(
            f"{path} was changed since it was written; `vaflow verify STORE --repair` restores it"
        )
