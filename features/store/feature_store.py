"""The feature store: one zarr group per feature set, one record per clip, whole or not there.

    <store>/                      attributes: format and version
        <spec name>/              attributes: the full spec
            <clip id>/            attributes: the commit, written last
                values (T, D)  time_s (T,)  valid (T,)
    <store>.work/                 staging, locks, ...: beside it, for zarr lists what lies inside

A record is staged, synced and renamed into place by whoever holds the clip's lock; a kill at any
moment leaves the old record, the new one, or none. On an object store (features/bucket.py) it is
staged on this machine and uploaded, its commit last.
"""

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
)
from features.store.layout import METADATA
from features.store.local import LocalBackend
from features.store.record import check_chunks, write_staged
from features.store.s3 import SCHEME, s3_backend
from features.store.work_folder import LOCKS, STAGING
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
    """Feature sets at one place. Many may read while many write."""

    place: StoreBackend

    @classmethod
    def open(cls, path: str | Path, *, create: bool = False) -> "FeatureStore":
        """The store at a path or URL; `InputError` where there is none, unless it may be made."""
        store = cls.at(path)
        if create:
            store.found()
        elif store.place.metadata("") is None:
            raise InputError(
                f"there is no feature store at {path}; `vaflow run extract-features` makes one"
            )
        return store

    @classmethod
    def at(cls, path: str | Path) -> "FeatureStore":
        """The store at a path or URL, or the one that `found` will make there; writes nothing.

        `InputError` where it holds something else.
        """
        store = cls(backend_at(path))
        raw = store.place.metadata("")
        if raw is None:
            store.place.refuse_unless_free()
            return store
        store.place.refuse_unless_safe()
        attributes = decode_attributes(raw, store._metadata_of(""))
        if attributes.get("format") != FORMAT:
            raise InputError(f"{path} is a zarr group but no feature store; give another path")
        if attributes.get("version") != VERSION:
            raise LaterVersion(
                f"{path} is a feature store of version {attributes.get('version')}, this vaflow "
                f"reads version {VERSION}; use the vaflow that wrote it, or another path"
            )
        check_canonical(raw, store._metadata_of(""), ROOT)
        return store

    def found(self) -> None:
        """Bring the store into being where it is not there yet; raises where one cannot write."""
        self.place.refuse_unless_writable()
        if self.place.metadata("") is not None:
            return
        with file_lock(self.work / LOCKS / "store"):  # two first runs may be at it
            self.place.refuse_unless_free()
            if self.place.metadata("") is None:
                self.place.put_metadata("", encode_group(ROOT))

    @property
    def path(self) -> Path:
        """The folder of the store; `InputError` where it lies on an object store."""
        if not isinstance(self.place, LocalBackend):
            raise InputError(
                f"{self.place.path()} is no folder, and this works on folders only; copy the store "
                "to a folder first, with any tool that copies objects"
            )
        return self.place.root

    @property
    def work(self) -> Path:
        """The folder on this machine for what is not a record yet."""
        return self.place.work

    def feature_sets(self) -> dict[str, FeatureSpec]:
        """The feature sets of the store by name; `StoreError` where a spec was tampered with."""
        found = {}
        for name in self.place.folders(""):
            raw = self.place.metadata(name)
            if raw is not None:
                found[name] = self._spec(name, raw)
            elif SET_NAME.fullmatch(name) and self.place.entries(name):
                raise StoreError(
                    f"{self.place.path(name)} lost its {METADATA}, which says what its features "
                    "are; extract with the same encoder config, which restores it, or move it out "
                    "of the store"
                )
        return found

    def sets_beside(self, spec: FeatureSpec) -> list[str]:
        """The names of the sets that encoders of the same kind made with other specs."""
        found = (name for name in self.place.folders("") if name.startswith(f"{spec.kind}-"))
        return [name for name in found if name != spec.name]

    def has_record(self, set_name: str, clip_id: str) -> bool:
        """Whether a clip has a record in a set, whatever its state."""
        return self.place.metadata(f"{set_name}/{clip_id}") is not None

    def mend(self, spec: FeatureSpec) -> None:
        """Give a feature set that lost its attributes them back; `StoreError` where they differ."""
        raw = self.place.metadata(spec.name)
        if raw is not None:
            self._spec(spec.name, raw)
        elif self.place.entries(spec.name):
            self.place.put_metadata(spec.name, encode_group(spec.model_dump(mode="json")))

    def spec(self, set_name: str) -> FeatureSpec:
        """The spec of a feature set; `StoreError` where it is not there or was tampered with."""
        raw = self.place.metadata(set_name)
        if raw is None:
            raise StoreError(f"{self._metadata_of(set_name)} is missing")
        return self._spec(set_name, raw)

    def _spec(self, name: str, raw: bytes) -> FeatureSpec:
        """The spec in a feature set's metadata."""
        said = self.place.path(name)
        try:
            spec = FeatureSpec.model_validate(decode_attributes(raw, self._metadata_of(name)))
        except ValidationError as error:
            raise LaterVersion(
                f"{said} holds no feature spec that this vaflow knows "
                f"({describe(error, FeatureSpec)}); use the vaflow that wrote it, or move the "
                "folder out of the store"
            ) from None
        if spec.name != name:
            raise StoreError(
                f"{said} holds the spec of {spec.name}: it was renamed or changed; restore it, "
                "or move it out of the store and extract again"
            )
        check_canonical(raw, self._metadata_of(name), spec.model_dump(mode="json"))
        return spec

    def _metadata_of(self, name: str) -> str:
        """How a person finds a group's metadata."""
        return self.place.path(f"{name}/{METADATA}" if name else METADATA)

    def name(self, set_name: str, clip_id: str) -> str:
        """The clip's record by its name inside the place.

        `InputError` where that would lead out of the store.
        """
        for name, pattern, what in ((set_name, SET_NAME, "set"), (clip_id, CLIP_NAME, "clip")):
            if not pattern.fullmatch(name):
                raise InputError(f"{name!r} is no name of a {what}; `vaflow ls STORE` lists them")
        return f"{set_name}/{clip_id}"

    def folder(self, set_name: str, clip_id: str) -> Path:
        """Where the clip's record lies on this machine; raises as `name` and `path`."""
        return self.path / self.name(set_name, clip_id)

    def commit(self, set_name: str, clip_id: str) -> Commit | None:
        """The clip's commit, or None where there is none.

        `StoreError` where it is damaged, `LaterVersion` where it says what we do not know.
        """
        return self.place.commit(self.name(set_name, clip_id))

    def glance(self, set_name: str, clip_id: str) -> RecordHeader:
        """What one sees of the clip's record without reading its arrays."""
        return self.place.glance(self.name(set_name, clip_id))

    def read(self, set_name: str, clip_id: str) -> Track:
        """The clip's track; `StoreError` where it is missing or not what was written."""
        commit = self.commit(set_name, clip_id)
        if commit is None:
            raise StoreError(
                f"{self.place.path()} holds no features {set_name} of clip {clip_id!r}; "
                "run extract-features"
            )
        name = self.name(set_name, clip_id)
        try:
            return self.place.track(name, commit)
        except (StoreError, ValueError, KeyError, OSError) as error:
            raise StoreError(
                f"the features {set_name} of clip {clip_id!r} in {self.place.path()} are damaged "
                f"({error}); delete the folder {self.place.path(name)} and run extract-features"
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
        held: HeldLock | None = None,
        expected: dict[str, str] | None = None,
    ) -> Commit:
        """Publish a track as the clip's record, in the place of an older one.

        `held` is the clip's claim, where the caller has it already; else it is waited for. Where
        the disk does not take the record, an `OSError` names its folder, and what was there before
        stays. Ctrl-C waits for its end: zarr's own thread would go on writing into staging
        (test_store.py). `expected` is what the files of the record were where it comes from:
        `StoreError` where its chunks are others, and it is not published.
        """
        lock = nullcontext() if held else file_lock(self._lock(spec.name, clip_id))
        staged = self.work / STAGING / f"{spec.name}.{clip_id}.{uuid.uuid4().hex}"
        name = self.name(spec.name, clip_id)
        with lock, deferring_signals(), errors_name(self.place.disk_path(name)):
            try:
                staged.mkdir(parents=True)
                commit = write_staged(staged, track, source, provenance, note)
                if expected is not None:
                    check_chunks(commit, expected)
                if self.place.metadata(spec.name) is None:
                    data = encode_group(spec.model_dump(mode="json"))
                    self.place.put_metadata(spec.name, data)
                self.place.publish(staged, name)  # what commits
            finally:
                shutil.rmtree(staged, ignore_errors=True)
        return commit

    def claim(self, set_name: str, clip_id: str) -> HeldLock | None:
        """The sole right to write a clip's record until it is released; None where another has it.

        The kernel frees it when its holder dies, and with it whatever lies of the clip in staging
        is debris.
        """
        return try_lock(self._lock(set_name, clip_id))

    def _lock(self, set_name: str, clip_id: str) -> Path:
        """The file that is locked by whoever works on a clip's record."""
        return self.work / LOCKS / f"{set_name}.{clip_id}"


def backend_at(store: str | Path) -> StoreBackend:
    """The place that a path or URL names; `InputError` where it is a URL of another kind."""
    said = str(store)
    if said.startswith(SCHEME):
        return s3_backend(said)
    if "://" in said:
        raise InputError(
            f"store = {said!r}: only folders of this machine and {SCHEME}BUCKET/PREFIX are "
            "supported"
        )
    return LocalBackend(Path(store))


def absolute_path(store: str) -> str:
    """The same store, as any folder and any later process may name it."""
    return store if "://" in store else str(Path(store).resolve())
