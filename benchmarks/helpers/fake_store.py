"""A store of a million clips, and their media, that take no room: it answers from memory.

The media is real to whoever looks at it: a thousand small files below a thousand names for their
folder. A record is made up when it is asked for, of the number in its clip's id.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from features.canonical_json import JsonObject
from features.freshness.quarantine import write_entry
from features.media.decoder_version import decoder_version
from features.media.limits import DEFAULT_LIMITS
from features.spec import MODALITY, FeatureSpec, Modality
from features.store.backend import Entry, StoreBackend
from features.store.commit import encode_commit, encode_group, make_commit
from features.store.feature_store import ROOT

N_FILES = 1000  # of media, below as many names for their one folder
PER_MILLE = {"missing": 80, "stale": 10, "corrupt": 9, "quarantined": 1}  # the others are complete
FILES = (
    "values/zarr.json", "values/c/0/0", "time_s/zarr.json", "time_s/c/0", "valid/zarr.json",
    "valid/c/0",
)  # fmt: skip


def make_media(folder: Path) -> None:
    """The files, and the names of their folder."""
    real = folder / "media" / "real"
    if real.exists():
        return
    real.mkdir(parents=True)
    for file in range(N_FILES):
        (real / f"{file:03d}.mp4").write_bytes(_content(file))
    for name in range(N_FILES):
        (folder / "media" / f"{name:03d}").symlink_to("real")


def make_manifest(folder: Path, n_clips: int) -> Path:
    """The manifest of so many clips, whose ids end with their numbers; made once."""
    path = folder / f"{n_clips}.jsonl"
    if not path.exists():
        with path.open("w") as file:
            for number in range(n_clips):
                name, media = divmod(number, N_FILES)
                line = {"id": f"clip-{number:07d}", "video": f"media/{name:03d}/{media:03d}.mp4"}
                file.write(json.dumps({**line, "split": "train", "subject": f"p{number // 4}"}))
                file.write("\n")
    return path


def make_quarantine(work: Path, specs: list[FeatureSpec], n_clips: int) -> None:
    """The files that remember the clips in quarantine; made once."""
    for spec in specs:
        if (work / "quarantine" / spec.name).exists():
            continue
        for number in range(n_clips):
            if kind_of(number % N_FILES) == "quarantined":
                write_entry(
                    work,
                    spec.name,
                    f"clip-{number:07d}",
                    code="damaged",
                    message="made up",
                    source=source_of(number, MODALITY[spec.kind]),
                    decoder=decoder_version(DEFAULT_LIMITS),
                )


@cache
def kind_of(number: int) -> str:
    """How the clips of this number, and of all that end alike, stand: spread evenly."""
    place = number * 7919 % 1000  # a prime: neighbours differ
    for kind, share in PER_MILLE.items():
        if place < share:
            return kind
        place -= share
    return "complete"


def source_of(number: int, modality: Modality) -> JsonObject:
    """What `SourceDigests` finds of the clip's media."""
    digest = _digest(number % N_FILES)
    if modality == "audio":
        return {"sound": digest}
    return {"video": digest, "frames": None, "fps": None}


@dataclass(frozen=True, slots=True)
class Imagined(StoreBackend):
    """A store in memory, with such a share of each state; or a new one, with no record."""

    folder: Path
    sets: Mapping[str, FeatureSpec]
    """By name."""
    is_new: bool
    is_atomic = True  # nothing is written

    def path(self, name: str = "") -> str:
        """What messages say."""
        return f"imagined://store/{name}"

    @property
    def work(self) -> Path:
        """A real folder: the memo and the quarantine are real."""
        return self.folder / ("new.work" if self.is_new else "imagined.work")

    def entries(self, name: str) -> list[Entry]:
        """The feature sets."""
        return [] if name or self.is_new else [Entry(each, "folder") for each in self.sets]

    def metadata(self, name: str) -> bytes | None:
        """Of the store, its sets, and the records that are there."""
        if self.is_new:
            return None
        if not name:
            return encode_group(ROOT)
        set_name, _, clip = name.partition("/")
        spec = self.sets.get(set_name)
        if spec is None:
            return None
        if clip:
            return _record(int(clip[-7:]) % N_FILES, MODALITY[spec.kind])
        return encode_group(spec.model_dump(mode="json"))

    def file_sizes(self, name: str, files: Iterable[str]) -> dict[str, int]:
        """One byte for each file; a corrupt record lacks its values."""
        is_corrupt = kind_of(int(name[-7:]) % N_FILES) == "corrupt"
        return {file: 1 for file in files if not (is_corrupt and file == "values/c/0/0")}

    def check_no_links(self) -> None:
        """Nothing: no link."""

    def check_writable(self) -> None:
        """Nothing: what is written is forgotten."""

    def staging_path(self, name: str) -> Path:
        """The work folder."""
        return self.work

    def put_metadata(self, name: str, data: bytes) -> None:
        """Forget it."""

    def record(self, name: str) -> AbstractContextManager[Path]:
        """None is here; no plan asks."""
        raise NotImplementedError

    def publish(self, staged: Path, name: str) -> None:
        """No plan does."""
        raise NotImplementedError

    def move_out(self, name: str, target: Path) -> bool:
        """No plan does."""
        raise NotImplementedError


@cache
def _record(number: int, modality: Modality) -> bytes | None:
    """The commit of the clips that end with a number; None where they have none.

    It says nothing of the clip but its media.
    """
    kind = kind_of(number)
    if kind in ("missing", "quarantined"):
        return None
    file = (number + (kind == "stale")) % N_FILES  # a stale one was made of another file
    files = dict.fromkeys(FILES, "0" * 64)
    made_by = {"vaflow": "1", "host": "h", "device": "cuda:0", "batch_size": 64, "reason": "new"}
    return encode_commit(make_commit(source_of(file, modality), files, made_by, None))


@cache
def _digest(file: int) -> str:
    return hashlib.sha256(_content(file)).hexdigest()


def _content(file: int) -> bytes:
    return f"video {file}".encode()
