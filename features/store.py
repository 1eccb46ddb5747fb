"""The feature store: one zarr group per feature set, one record per clip, whole or not there.

    <store>/                      attributes: format and version
        <spec name>/              attributes: the full spec
            <clip id>/            attributes: the commit, written last
                values (T, D)  time_s (T,)  valid (T,)
    <store>.work/                 staging, locks, ...: beside it, for zarr lists what lies inside

A record is staged, synced and renamed into place by whoever holds the clip's lock; a kill at any
moment leaves the old record, the new one, or none.
"""

import os
import re
import shutil
import uuid
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from features.durable import (
    Claim,
    claim,
    finishing,
    locked,
    naming,
    refuse_unless_writable,
    sync_folder,
    write_whole,
)
from features.errors import InputError, LaterVersion, StoreError
from features.glance import Glance, State, glance, judged
from features.record_form import METADATA
from features.records import ID_PATTERN, JsonObject, Track
from features.spec import FeatureSpec
from features.store_record import (
    Commit,
    attributes_in,
    group_metadata,
    read_commit,
    read_track,
    refuse_other_chunks,
    refuse_unless_canonical,
    stage,
)
from features.validation import describe

FORMAT = "vaflow-features"
VERSION = 1
LOCKS, STAGING = "locks", "staging"  # in the folder beside the store
CLIP_NAME = re.compile(ID_PATTERN)
ROOT: JsonObject = {"format": FORMAT, "version": VERSION}  # the attributes of a store
SET_NAME = re.compile(r"[a-z][a-z0-9]*-[0-9a-f]{12}")  # <kind>-<digest> (features/spec.py)


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
        store._refuse_links()
        attributes = attributes_in(store.path / METADATA)
        if attributes.get("format") != FORMAT:
            raise InputError(f"{path} is a zarr group but no feature store; give another path")
        if attributes.get("version") != VERSION:
            raise LaterVersion(
                f"{path} is a feature store of version {attributes.get('version')}, this vaflow "
                f"reads version {VERSION}; use the vaflow that wrote it, or another path"
            )
        refuse_unless_canonical(store.path / METADATA, ROOT)
        return store

    def found(self) -> None:
        """Bring the store into being where it is not there yet; raises where one cannot write."""
        refuse_unless_writable(self.path, "store")
        if (self.path / METADATA).exists():
            return
        with locked(self.work / LOCKS / "store"):  # two first runs may be at it
            self._refuse_unless_free()
            if not (self.path / METADATA).exists():
                self._put_group(self.path, ROOT)

    def _refuse_links(self) -> None:
        """Raise where the store leads elsewhere: links could name any file of this machine."""
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise StoreError(
                        f"{entry.path} is a link; a store holds files and folders only: put the "
                        "folder itself there, or take the link away"
                    )

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
        found = {}
        for folder in sorted(self.path.iterdir()):
            if (folder / METADATA).is_file():
                found[folder.name] = self._spec(folder)
            elif SET_NAME.fullmatch(folder.name) and any(folder.iterdir()):
                raise StoreError(
                    f"{folder} lost its {METADATA}, which says what its features are; extract with "
                    "the same encoder config, which restores it, or move it out of the store"
                )
        return found

    def sets_beside(self, spec: FeatureSpec) -> list[str]:
        """The names of the sets that encoders of the same kind made with other specs."""
        found = sorted(folder.name for folder in self.path.glob(f"{spec.kind}-*"))
        return [name for name in found if name != spec.name]

    def has_record(self, set_name: str, clip_id: str) -> bool:
        """Whether a clip has a record in a set, whatever its state."""
        return (self.path / set_name / clip_id / METADATA).is_file()

    def mend(self, spec: FeatureSpec) -> None:
        """Give a feature set that lost its attributes them back; `StoreError` where they differ."""
        folder = self.path / spec.name
        if (folder / METADATA).exists():
            self._spec(folder)
        elif folder.is_dir():
            self._put_group(folder, spec.model_dump(mode="json"))

    def spec(self, set_name: str) -> FeatureSpec:
        """The spec of a feature set that is there; `StoreError` where it was tampered with."""
        return self._spec(self.path / set_name)

    def _spec(self, folder: Path) -> FeatureSpec:
        """The spec in a feature set's attributes."""
        try:
            spec = FeatureSpec.model_validate(attributes_in(folder / METADATA))
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
        refuse_unless_canonical(folder / METADATA, spec.model_dump(mode="json"))
        return spec

    def folder(self, set_name: str, clip_id: str) -> Path:
        """Where the clip's record lies; `InputError` where a name would lead out of the store."""
        for name, pattern, what in ((set_name, SET_NAME, "set"), (clip_id, CLIP_NAME, "clip")):
            if not pattern.fullmatch(name):
                raise InputError(f"{name!r} is no name of a {what}; `vaflow ls STORE` lists them")
        return self.path / set_name / clip_id

    def commit(self, set_name: str, clip_id: str) -> Commit | None:
        """The clip's commit, or None where there is none.

        `StoreError` where it is damaged, `LaterVersion` where it says what we do not know.
        """
        return read_commit(self.folder(set_name, clip_id))

    def glance(self, set_name: str, clip_id: str) -> Glance:
        """What one sees of the clip's record without reading its arrays."""
        return glance(self.folder(set_name, clip_id))

    def state(self, set_name: str, clip_id: str, source: JsonObject) -> tuple[State, str]:
        """How the clip's record stands to the media it should be made from, and why.

        Looks at the commit and at which files are there; it does not read the arrays.
        """
        return judged(self.glance(set_name, clip_id), source)

    def read(self, set_name: str, clip_id: str) -> Track:
        """The clip's track; `StoreError` where it is missing or not what was written."""
        commit = self.commit(set_name, clip_id)
        if commit is None:
            raise StoreError(
                f"{self.path} holds no features {set_name} of clip {clip_id!r}; "
                "run extract-features"
            )
        folder = self.folder(set_name, clip_id)
        try:
            return read_track(folder, commit)
        except (StoreError, ValueError, KeyError, OSError) as error:
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
        held: Claim | None = None,
        expected: dict[str, str] | None = None,
    ) -> Commit:
        """Publish a track as the clip's record, in the place of an older one.

        `held` is the clip's claim, where the caller has it already; else it is waited for. Where
        the disk does not take the record, an `OSError` names its folder, and what was there before
        stays. Ctrl-C waits for its end: zarr's own thread would go on writing into staging
        (test_store.py). `expected` is what the files of the record were where it comes from:
        `StoreError` where its chunks are others, and it is not published.
        """
        lock = nullcontext() if held else locked(self._lock(spec.name, clip_id))
        staged = self.work / STAGING / f"{spec.name}.{clip_id}.{uuid.uuid4().hex}"
        with lock, finishing(), naming(self.path / spec.name / clip_id):
            try:
                staged.mkdir(parents=True)
                commit = stage(staged, track, source, provenance, note)
                if expected is not None:
                    refuse_other_chunks(commit, expected)
                self._publish(staged, spec, clip_id)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
        return commit

    def claim(self, set_name: str, clip_id: str) -> Claim | None:
        """The sole right to write a clip's record until it is released; None where another has it.

        The kernel frees it when its holder dies, and with it whatever lies of the clip in staging
        is debris.
        """
        return claim(self._lock(set_name, clip_id))

    def _lock(self, set_name: str, clip_id: str) -> Path:
        """The file that is locked by whoever works on a clip's record."""
        return self.work / LOCKS / f"{set_name}.{clip_id}"

    def _put_group(self, folder: Path, attributes: JsonObject) -> None:
        """Make a group's folder with its attributes, and have the disk keep its name."""
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / METADATA, group_metadata(attributes), self.work)
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
