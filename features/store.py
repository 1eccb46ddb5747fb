"""The feature store: one zarr group per feature set, one record per clip, whole or not there.

    <store>/                      attributes: format and version
        <spec name>/              attributes: the full spec
            <clip id>/            attributes: the commit, written last
                values (T, D)  time_s (T,)  valid (T,)
    <store>.work/                 staging, locks: beside it, for zarr lists what lies inside

A record is staged, synced and renamed into place; a kill at any moment leaves the old record,
the new one, or none.
"""

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import zarr
from pydantic import ValidationError
from zarr.codecs import BytesCodec, Crc32cCodec

from features.durable import (
    finishing,
    locked,
    naming,
    refuse_unless_writable,
    sha256_of,
    sync_folder,
    sync_tree,
    write_whole,
)
from features.errors import InputError, LaterVersion, StoreError
from features.records import JsonObject, Track
from features.spec import FeatureSpec, canonical
from features.validation import describe

FORMAT = "vaflow-features"
VERSION = 1
CHUNK_BYTES = 4 * 2**20  # a chunk is read whole, and a fault in it costs at most this much
METADATA = "zarr.json"

State = Literal["complete", "missing", "stale", "corrupt"]


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


@dataclass(frozen=True, slots=True)
class FeatureStore:
    """A folder of feature sets. Many may read while many write."""

    path: Path

    @classmethod
    def open(cls, path: str | Path, *, create: bool = False) -> "FeatureStore":
        """The store at a path; `InputError` where there is none, unless it may be created."""
        store = cls.at(path)
        if create:
            store.found()
        elif not (store.path / METADATA).exists():
            raise InputError(
                f"there is no feature store at {path}; `vaflow run extract-features` makes one"
            )
        return store

    @classmethod
    def at(cls, path: str | Path) -> "FeatureStore":
        """The store at a path, or the one that `found` will make there; writes nothing.

        `InputError` where the path holds something else.
        """
        if "://" in str(path):
            raise InputError(f"store = {str(path)!r}: only folders of this machine are supported")
        store = cls(Path(path))
        if not (store.path / METADATA).exists():
            store._refuse_unless_free()
            return store
        attributes = _attributes(store.path / METADATA)
        if attributes.get("format") != FORMAT:
            raise InputError(f"{path} is a zarr group but no feature store; give another path")
        if attributes.get("version") != VERSION:
            raise LaterVersion(
                f"{path} is a feature store of version {attributes.get('version')}, this vaflow "
                f"reads version {VERSION}; use the vaflow that wrote it, or another path"
            )
        return store

    def found(self) -> None:
        """Bring the store into being where it is not there yet; raises where one cannot write."""
        refuse_unless_writable(self.path, "store")
        if (self.path / METADATA).exists():
            return
        with locked(self.work / "locks" / "store"):  # two first runs may be at it
            self._refuse_unless_free()
            if not (self.path / METADATA).exists():
                self._put_group(self.path, {"format": FORMAT, "version": VERSION})

    def _refuse_unless_free(self) -> None:
        """Raise unless a new store may come to be at this path, or one is there by now."""
        if (self.path / METADATA).exists():
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise InputError(
                f"{self.path} exists and is no feature store; give a path that is free"
            )

    @property
    def work(self) -> Path:
        """The folder beside the store for what is not a record yet."""
        return self.path.with_name(self.path.name + ".work")

    def feature_sets(self) -> dict[str, FeatureSpec]:
        """The feature sets of the store by name; `StoreError` where a spec was tampered with."""
        return {
            folder.name: self._spec(folder)
            for folder in sorted(self.path.iterdir())
            if (folder / METADATA).is_file()
        }

    def mend(self, spec: FeatureSpec) -> None:
        """Give a feature set that lost its attributes them back; `StoreError` where they differ."""
        folder = self.path / spec.name
        if (folder / METADATA).exists():
            self._spec(folder)
        elif folder.is_dir():
            self._put_group(folder, spec.model_dump(mode="json"))

    def _spec(self, folder: Path) -> FeatureSpec:
        """The spec in a feature set's attributes."""
        try:
            spec = FeatureSpec.model_validate(_attributes(folder / METADATA))
        except ValidationError as error:
            raise LaterVersion(
                f"{folder} holds no feature spec that this vaflow knows "
                f"({describe(error, FeatureSpec)}); use the vaflow that wrote it, or move the "
                "folder out of the store"
            ) from None
        if spec.name != folder.name:
            raise StoreError(
                f"{folder} holds the spec of {spec.name}: it was renamed or changed; restore it, "
                "or move it out of the store and extract again"
            )
        return spec

    def commit(self, set_name: str, clip_id: str) -> Commit | None:
        """The clip's commit, or None where there is none.

        `StoreError` where it is damaged, `LaterVersion` where it says what we do not know.
        """
        path = self.path / set_name / clip_id / METADATA
        try:
            raw = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            attributes = dict(json.loads(raw)["attributes"])
            digest = attributes.pop("digest")
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is damaged ({error}); extract the clip again") from None
        if raw != _group({**attributes, "digest": _digest(attributes)}):
            raise StoreError(f"{path} is not what was committed; extract the clip again")
        try:
            return Commit(**attributes, digest=digest)
        except TypeError:
            known = ", ".join(sorted(set(attributes) ^ {*Commit.__slots__} - {"digest"}))
            raise LaterVersion(
                f"{path} was committed by another vaflow, which says more or less of a record "
                f"({known}); use that one, or another store"
            ) from None

    def state(self, set_name: str, clip_id: str, source: JsonObject) -> tuple[State, str]:
        """How the clip's record stands to the media it should be made from, and why.

        Looks at the commit and at which files are there; it does not read the arrays.
        """
        try:
            commit = self.commit(set_name, clip_id)
        except StoreError as error:
            return "corrupt", str(error)
        if commit is None:
            return "missing", "no record"
        for name in commit.files:
            if not (self.path / set_name / clip_id / name).is_file():
                return "corrupt", f"{name} is missing"
        before = commit.source
        if changed := [k for k in source | before if source.get(k) != before.get(k)]:
            return "stale", f"source changed: {', '.join(changed)}"
        return "complete", commit.note or ""

    def read(self, set_name: str, clip_id: str) -> Track:
        """The clip's track; `StoreError` where it is missing or not what was written."""
        commit = self.commit(set_name, clip_id)
        if commit is None:
            raise StoreError(
                f"{self.path} holds no features {set_name} of clip {clip_id!r}; "
                "run extract-features"
            )
        folder = self.path / set_name / clip_id
        try:
            for name, digest in commit.files.items():
                # zarr reads a missing chunk as fill and overlooks a flipped bit of metadata
                if not (folder / name).is_file():
                    raise ValueError(f"{name} is missing")
                if name.endswith(METADATA) and sha256_of(folder / name) != digest:
                    raise ValueError(f"{name} was changed")
            group = zarr.open_group(folder, mode="r")
            arrays = {name: np.asarray(array[...]) for name, array in group.arrays()}
            return Track(arrays["values"], arrays["time_s"], arrays["valid"])
        except (ValueError, KeyError, OSError) as error:
            raise StoreError(
                f"the features {set_name} of clip {clip_id!r} in {self.path} are damaged "
                f"({error}); delete the folder {folder} and run extract-features"
            ) from error

    def write(
        self,
        spec: FeatureSpec,
        clip_id: str,
        track: Track,
        *,
        source: JsonObject,
        provenance: JsonObject,
        note: str | None = None,
    ) -> Commit:
        """Publish a track as the clip's record, in the place of an older one.

        Where the disk does not take it, an `OSError` names the record's folder, and what was
        there before stays. Ctrl-C waits for its end: zarr's own thread would go on writing into
        staging (test_store.py).
        """
        staged = self.work / "staging" / uuid.uuid4().hex
        with finishing(), naming(self.path / spec.name / clip_id):
            try:
                staged.mkdir(parents=True)
                commit = _stage(staged, track, source, provenance, note)
                with locked(self.work / "locks" / f"{spec.name}.{clip_id}"):
                    self._publish(staged, spec, clip_id)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
        return commit

    def _put_group(self, folder: Path, attributes: JsonObject) -> None:
        """Make a group's folder with its attributes, and have the disk keep its name."""
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / METADATA, _group(attributes), self.work)
        sync_folder(folder.parent)

    def _publish(self, staged: Path, spec: FeatureSpec, clip_id: str) -> None:
        """Rename the staged record into place: the line that commits is the last rename."""
        parent = self.path / spec.name
        if not (parent / METADATA).exists():
            self._put_group(parent, spec.model_dump(mode="json"))
        place, retired = parent / clip_id, staged.with_name(staged.name + ".old")
        if place.exists():  # a folder cannot be renamed over one that is not empty
            place.rename(retired)
        try:
            os.rename(staged, place)
        except BaseException:  # Ctrl-C, too
            if retired.exists() and not place.exists():
                retired.rename(place)
            raise
        sync_folder(parent)
        shutil.rmtree(retired, ignore_errors=True)


def _stage(
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
    (folder / METADATA).write_bytes(_group({**attributes, "digest": digest}))
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


def _group(attributes: JsonObject) -> bytes:
    """The canonical zarr.json of a group."""
    return canonical({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def _digest(attributes: JsonObject) -> str:
    """sha256 of a commit's canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(attributes)).hexdigest()


def _attributes(metadata: Path) -> JsonObject:
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
