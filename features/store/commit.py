"""The commit of a record: the attributes of its zarr group, written last."""

import hashlib
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError

from features.canonical_json import JsonObject, canonical, parse_object
from features.errors import LaterVersion, StoreError
from features.store.layout import FILE_PATTERN, METADATA, read_metadata

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
    return parse_commit(raw, path)


def parse_commit(raw: bytes, path: str) -> Commit:
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
    if raw != encode_group({**attributes, "digest": _digest(attributes)}):
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


def make_commit(
    source: JsonObject, files: dict[str, str], provenance: JsonObject, note: str | None
) -> Commit:
    """The commit that says this, with its own digest."""
    said = {"source": source, "files": files, "provenance": provenance, "note": note}
    return Commit(source, files, provenance, note, _digest(said))


def encode_commit(commit: Commit) -> bytes:
    """The canonical zarr.json of a record."""
    return encode_group(asdict(commit))


def encode_group(attributes: JsonObject) -> bytes:
    """The canonical zarr.json of a group."""
    return canonical({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _digest(attributes: JsonObject) -> str:
    """sha256 of a commit's canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(attributes)).hexdigest()


def decode_attributes(raw: bytes, path: str) -> JsonObject:
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


def check_canonical(raw: bytes, path: str, attributes: JsonObject) -> None:
    """`StoreError` where a group's zarr.json is not the one spelling of these attributes."""
    if raw != encode_group(attributes):
        raise StoreError(
            f"{path} was changed since it was written; `vaflow verify STORE --repair` restores it"
        )


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """One record, as far as it was looked at."""

    commit: Commit | None
    n_bytes: int = 0
    """Of its files, the commit's own included."""
    fault: str = ""
    """Why it cannot be what was committed."""


def read_header(folder: Path | str) -> RecordHeader:
    """A record's commit, and whether the files that it names are there.

    `LaterVersion` where the commit says what we do not know.
    """
    try:
        commit = read_commit(folder)
        if commit is None:
            return RecordHeader(None)
        sizes = [_size(folder, name) for name in (METADATA, *commit.files)]
    except StoreError as error:
        return RecordHeader(None, fault=str(error))
    return RecordHeader(commit, sum(sizes))


def _size(folder: Path | str, name: str) -> int:
    """The bytes of a file of a record; `StoreError` where it is not there, or empty."""
    try:
        found = os.lstat(f"{folder}/{name}")
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{name} is missing") from None
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{name} is a link or no file")
    if found.st_size == 0:
        raise StoreError(f"{name} is empty")
    return found.st_size
