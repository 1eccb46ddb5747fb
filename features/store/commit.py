"""The commit of a record: the attributes of its zarr group, written last."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError

from features.canonical_json import JsonObject, canonical, canonical_sha256, parse_object
from features.errors import LaterVersion, StoreError
from features.store.layout import FILE_PATTERN, METADATA, group_metadata

# The first and last bytes of a commit. `digest` is the first of its keys, so the rest can be hashed
# directly, without encoding it again (100,000 commits for one `vaflow status`).
_HEAD = b'{"attributes":{"digest":"'
_TAIL = b'},"node_type":"group","zarr_format":3}'
_REST = len(_HEAD) + 64 + len('",')  # after the hexadecimal digits of the digest

FileName = Annotated[str, StringConstraints(pattern=FILE_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class Commit:
    """The attributes of a record."""

    source: JsonObject
    """Digests of the media that it was extracted from, by part."""
    files: dict[FileName, Sha256]
    """sha256 of every other file of the record, by path inside it."""
    provenance: JsonObject
    """Versions, device and settings of the extraction, which do not change the numbers."""
    note: str | None
    """Why the record is empty, if it is."""
    digest: Sha256
    """sha256 of the canonical JSON of the other fields."""

    @property
    def decoding(self) -> int:
        """The version of the decoder (`decoder_version.DECODING`) that read the media."""
        version = self.provenance.get("decoding", 1)  # records of vaflow 0.1 have none
        return version if isinstance(version, int) else 1


@dataclass(frozen=True, slots=True)
class _Group:
    """The zarr.json of a record."""

    attributes: Commit
    node_type: Literal["group"]
    zarr_format: Literal[3]

    __pydantic_config__ = ConfigDict(extra="forbid")  # holds for the commit inside, too


_COMMIT: TypeAdapter[Commit] = TypeAdapter(Commit)
_GROUP: TypeAdapter[_Group] = TypeAdapter(_Group)


def parse_commit(raw: bytes, path: str) -> Commit:
    """The commit in the bytes of a record's zarr.json; messages name `path`.

    Raises `StoreError` if it is damaged or not a commit of vaflow, `LaterVersion` if it has fields
    that this version does not know.
    """
    if _has_valid_digest(raw):
        try:
            return _GROUP.validate_json(raw).attributes
        except ValidationError:
            pass  # the slower checks below find what is wrong
    try:
        attributes = dict(parse_object(raw)["attributes"])
        digest = attributes.pop("digest")
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged ({error}); extract the clip again") from None
    if raw != encode_group({**attributes, "digest": canonical_sha256(attributes)}):
        raise StoreError(f"{path} is not what was committed; extract the clip again")
    if unknown := sorted(set(attributes) ^ {*Commit.__slots__} - {"digest"}):
        raise LaterVersion(
            f"{path} was committed by another version of vaflow, with other fields "
            f"({', '.join(unknown)}); use that version, or another store"
        )
    try:
        return _COMMIT.validate_python({**attributes, "digest": digest})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise StoreError(
            f"{path} is not the commit of a record ({'.'.join(map(str, first['loc']))} = "
            f"{first['input']!r}); extract the clip again"
        ) from None


def _has_valid_digest(raw: bytes) -> bool:
    """Whether the bytes have the form of a commit and the right digest."""
    if not (raw.startswith(_HEAD) and raw.endswith(_TAIL)):
        return False
    digest, rest = raw[len(_HEAD) : _REST], raw[_REST : -len(_TAIL)]
    return digest == f'{hashlib.sha256(b"{" + rest + b"}").hexdigest()}",'.encode()


def make_commit(
    source: JsonObject, files: dict[str, str], provenance: JsonObject, note: str | None
) -> Commit:
    """A commit of these fields, with its digest."""
    fields = {"source": source, "files": files, "provenance": provenance, "note": note}
    return Commit(source, files, provenance, note, canonical_sha256(fields))


def encode_commit(commit: Commit) -> bytes:
    """The canonical zarr.json of a record."""
    return encode_group(asdict(commit))


def encode_group(attributes: JsonObject) -> bytes:
    """The canonical zarr.json of a group."""
    return canonical({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def decode_attributes(raw: bytes, path: str) -> JsonObject:
    """The attributes in the bytes of a group's zarr.json; raises `StoreError` that names `path`."""
    try:
        attributes = parse_object(raw)["attributes"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}); restore it, or move its folder out of the way"
        ) from None
    if not isinstance(attributes, dict):
        raise StoreError(f"{path} has attributes that are not an object; restore it")
    return attributes


def check_canonical(raw: bytes, path: str, attributes: JsonObject) -> None:
    """Raise `StoreError` unless the bytes are the canonical zarr.json of these attributes."""
    if raw != encode_group(attributes):
        raise StoreError(
            f"{path} was changed since it was written; `vaflow verify STORE --repair` restores it"
        )


def read_commit(folder: Path | str) -> Commit | None:
    """The commit of the record in a local folder, or None; raises as `parse_commit`."""
    raw = group_metadata(folder)
    return None if raw is None else parse_commit(raw, f"{folder}/{METADATA}")


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """The commit of a record, and whether its files exist; no array is read."""

    commit: Commit | None
    n_bytes: int = 0
    """Size of all files of the record."""
    fault: str = ""
    """Why the record is corrupt; empty if its header shows no fault."""
