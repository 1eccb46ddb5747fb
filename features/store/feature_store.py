"""The feature store: one zarr group per feature set, one record per clip, complete or missing.

    <store>/                      attributes: format and version
        <spec name>/              attributes: the full spec
            <clip id>/            attributes: the commit, written last
                values (T, D)  time_s (T,)  valid (T,)
    <store>.work/                 staging, locks, ...; outside, since zarr lists every folder

The holder of a clip's lock stages a record, syncs it and renames it into place; a kill at any
moment leaves the old record, the new one or none. For an object store (s3.py) the record is staged
on this machine and uploaded, its commit last.
"""

import posixpath
import re
import shutil
import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from features.canonical_json import JsonObject
from features.clip import ID_PATTERN, Track
from features.config_errors import describe
from features.errors import InputError, LaterVersion, StoreError
from features.spec import FeatureSpec
from features.store.backend import StoreBackend
from features.store.commit import (
    Commit,
    RecordHeader,
    check_canonical,
    decode_attributes,
    encode_group,
    parse_commit,
)
from features.store.layout import METADATA
from features.store.local import LocalBackend
from features.store.location import backend_at
from features.store.record import check_same_chunks, read_track, write_staged
from features.store.work_folder import locks_folder, record_lock, staging_folder
from features.system.files import errors_name
from features.system.locks import HeldLock, file_lock, try_lock
from features.system.signals import deferring_signals

FORMAT = "vaflow-features"
VERSION = 1
CLIP_NAME = re.compile(ID_PATTERN)
ROOT: JsonObject = {"format": FORMAT, "version": VERSION}  # the attributes of a store
SET_NAME = re.compile(r"[a-z][a-z0-9]*-[0-9a-f]{12}")  # <kind>-<digest> (features/spec.py)


@dataclass(frozen=True, slots=True)
class FeatureStore:
    """The feature sets in a folder or on an object store; many processes may read and write."""

    backend: StoreBackend

    @classmethod
    def open(cls, path: str | Path, *, create: bool = False) -> "FeatureStore":
        """The store at a path or URL; raises `InputError` if there is none, unless `create`."""
        store = cls.open_or_plan(path)
        if create:
            store.create()
        elif store._group_metadata("") is None:
            raise InputError(
                f"there is no feature store at {path}; `vaflow run extract-features` creates one"
            )
        return store

    @classmethod
    def open_or_plan(cls, path: str | Path) -> "FeatureStore":
        """The store at a path or URL, or the one that `create` will create; writes nothing.

        Raises `InputError` if something else is there, `LaterVersion` if a later vaflow wrote it.
        """
        store = cls(backend_at(path))
        raw = store._group_metadata("")
        if raw is None:
            store.backend.check_free()
            return store
        store.backend.check_no_links()
        attributes = decode_attributes(raw, store._metadata_path(""))
        if attributes.get("format") != FORMAT:
            raise InputError(f"{path} is a zarr group but no feature store; give another path")
        if attributes.get("version") != VERSION:
            raise LaterVersion(
                f"{path} is a feature store of version {attributes.get('version')}, this vaflow "
                f"reads version {VERSION}; use the vaflow that wrote it, or another path"
            )
        check_canonical(raw, store._metadata_path(""), ROOT)
        return store

    def create(self) -> None:
        """Create the store if it does not exist; raises if it cannot be written."""
        self.backend.check_writable()
        if self._group_metadata("") is not None:
            return
        with file_lock(locks_folder(self.work) / "store"):  # two first runs may start at once
            self.backend.check_free()
            if self._group_metadata("") is None:
                self.backend.put_metadata("", encode_group(ROOT))

    @property
    def path(self) -> Path:
        """The folder of the store; raises `InputError` if it is on an object store."""
        if not isinstance(self.backend, LocalBackend):
            raise InputError(
                f"{self.backend.path()} is no folder, and this works on folders only; copy the "
                "store to a folder first, with any tool that copies objects"
            )
        return self.backend.root

    @property
    def work(self) -> Path:
        """The work folder on this machine (work_folder.py)."""
        return self.backend.work

    def feature_sets(self) -> dict[str, FeatureSpec]:
        """The feature sets by name; raises `StoreError` if a spec is missing or was changed."""
        specs = {}
        for name in self.backend.folders(""):
            raw = self._group_metadata(name)
            if raw is not None:
                specs[name] = self._parse_spec(name, raw)
            elif SET_NAME.fullmatch(name) and self.backend.entries(name):
                raise StoreError(
                    f"{self.backend.path(name)} lost its {METADATA}, the spec of its features; "
                    "extract with the same encoder config, which restores it, or move it out of "
                    "the store"
                )
        return specs

    def sets_beside(self, spec: FeatureSpec) -> list[str]:
        """The names of the other feature sets of the same encoder kind."""
        names = self.backend.folders("")
        return [name for name in names if name.startswith(f"{spec.kind}-") and name != spec.name]

    def clip_ids(self, set_name: str) -> list[str]:
        """The clips that have a record in a feature set, sorted; a record may be corrupt."""
        return [name for name in self.backend.folders(set_name) if CLIP_NAME.fullmatch(name)]

    def has_record(self, set_name: str, clip_id: str) -> bool:
        """Whether a clip has a commit in a set, readable or not."""
        return self._group_metadata(f"{set_name}/{clip_id}") is not None

    def restore_spec(self, spec: FeatureSpec) -> None:
        """Write the attributes of a feature set that lost them; raises `StoreError` if they differ.

        Does nothing if there is no such set.
        """
        raw = self._group_metadata(spec.name)
        if raw is not None:
            self._parse_spec(spec.name, raw)
        elif self.backend.entries(spec.name):
            self.backend.put_metadata(spec.name, encode_group(spec.model_dump(mode="json")))

    def spec(self, set_name: str) -> FeatureSpec:
        """The spec of a feature set; raises `StoreError` if it is missing or was changed."""
        raw = self._group_metadata(set_name)
        if raw is None:
            raise StoreError(f"{self._metadata_path(set_name)} is missing")
        return self._parse_spec(set_name, raw)

    def _parse_spec(self, name: str, raw: bytes) -> FeatureSpec:
        path = self.backend.path(name)
        try:
            spec = FeatureSpec.model_validate(decode_attributes(raw, self._metadata_path(name)))
        except ValidationError as error:
            raise LaterVersion(
                f"{path} holds no feature spec that this vaflow knows "
                f"({describe(error, FeatureSpec)}); use the vaflow that wrote it, or move the "
                "folder out of the store"
            ) from None
        if spec.name != name:
            raise StoreError(
                f"{path} holds the spec of {spec.name}: it was renamed or changed; restore it, "
                "or move it out of the store and extract again"
            )
        check_canonical(raw, self._metadata_path(name), spec.model_dump(mode="json"))
        return spec

    def _group_metadata(self, name: str) -> bytes | None:
        try:
            return self.backend.metadata(name)
        except OSError as error:
            raise StoreError(
                f"{self._metadata_path(name)} cannot be read ({error}); restore it, or move its "
                "folder out of the way"
            ) from None

    def _metadata_path(self, name: str) -> str:
        return self.backend.path(posixpath.join(name, METADATA))

    def record_name(self, set_name: str, clip_id: str) -> str:
        """The name of a clip's record for the backend.

        Raises `InputError` if one of the two is not a valid name.
        """
        for name, pattern, what in ((set_name, SET_NAME, "set"), (clip_id, CLIP_NAME, "clip")):
            if not pattern.fullmatch(name):
                raise InputError(f"{name!r} is no name of a {what}; `vaflow ls STORE` lists them")
        return f"{set_name}/{clip_id}"

    def folder(self, set_name: str, clip_id: str) -> Path:
        """The local folder of a clip's record; raises as `record_name` and `path`."""
        return self.path / self.record_name(set_name, clip_id)

    def commit(self, set_name: str, clip_id: str) -> Commit | None:
        """The commit of a clip's record, or None if there is none; raises as `parse_commit`."""
        name = self.record_name(set_name, clip_id)
        raw = self.backend.metadata(name)
        return None if raw is None else parse_commit(raw, self._metadata_path(name))

    def header(self, set_name: str, clip_id: str) -> RecordHeader:
        """The header of a clip's record; raises `LaterVersion` as `parse_commit`."""
        name = self.record_name(set_name, clip_id)
        try:
            raw = self.backend.metadata(name)
            if raw is None:
                return RecordHeader(None)
            commit = parse_commit(raw, self._metadata_path(name))
            sizes = self.backend.file_sizes(name, commit.files)
        except StoreError as error:
            return RecordHeader(None, fault=str(error))
        for file in commit.files:
            if not sizes.get(file):
                fault = f"{file} is {'empty' if file in sizes else 'missing'}"
                return RecordHeader(None, fault=fault)
        return RecordHeader(commit, len(raw) + sum(sizes[file] for file in commit.files))

    def read(self, set_name: str, clip_id: str) -> Track:
        """The track of a clip; raises `StoreError` if it is missing or not what was committed."""
        commit = self.commit(set_name, clip_id)
        if commit is None:
            raise StoreError(
                f"{self.backend.path()} holds no features {set_name} of clip {clip_id!r}; "
                "run extract-features"
            )
        name = self.record_name(set_name, clip_id)
        try:
            with self.backend.record(name) as folder:
                return read_track(folder, commit, hash_chunks=not self.backend.is_atomic)
        except (StoreError, ValueError, KeyError, OSError) as error:
            raise StoreError(
                f"the features {set_name} of clip {clip_id!r} in {self.backend.path()} are damaged "
                f"({error}); delete the folder {self.backend.path(name)} and run extract-features"
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
        lock: HeldLock | None = None,
        expected: dict[str, str] | None = None,
    ) -> Commit:
        """Publish a track as the clip's record, in place of an older one; returns its commit.

        `lock` is the clip's lock if the caller holds it; else it is acquired. `expected` is the
        sha256 of each file of the record that is copied: if a chunk differs, `StoreError` is raised
        and nothing is published. If the record cannot be written, an `OSError` names its folder,
        and the older record stays. SIGINT and SIGTERM wait until the record is written, since
        zarr's thread would go on writing to staging (test_feature_store.py).
        """
        name, record = self.record_name(spec.name, clip_id), f"{spec.name}.{clip_id}"
        staged = staging_folder(self.work) / f"{record}.{uuid.uuid4().hex}"  # named as its lock
        locked = nullcontext() if lock else file_lock(record_lock(self.work, spec.name, clip_id))
        with locked, deferring_signals(), errors_name(self.backend.staging_path(name)):
            try:
                staged.mkdir(parents=True)
                commit = write_staged(staged, track, source, provenance, note)
                if expected is not None:
                    check_same_chunks(commit, expected)
                if self._group_metadata(spec.name) is None:
                    data = encode_group(spec.model_dump(mode="json"))
                    self.backend.put_metadata(spec.name, data)
                self.backend.publish(staged, name)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
        return commit

    def claim(self, set_name: str, clip_id: str) -> HeldLock | None:
        """The lock of a clip's record, held until it is released; None if another process holds it.

        The kernel frees it if its holder dies; the files of the holder in staging are then garbage.
        """
        return try_lock(record_lock(self.work, set_name, clip_id))
