"""The record of a prediction folder: what was predicted, from what, and which files hold it.

`predictions.json` has an entry per video. The entry is written after the video's files, and commits
them: a killed prediction does again only what has no entry.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from features.config import Config
from features.errors import InputError
from features.printable import printable
from features.system.files import check_writable, sha256_of
from features.system.locks import try_lock
from models.runs.folder import check_format, write_json

RECORD = "predictions.json"
PAGE = "index.html"
FEATURES = "features.zarr"
LOCK = ".lock"
FORMAT = "vaflow-predictions-1"
OWN = frozenset((RECORD, PAGE, FEATURES, f"{FEATURES}.work"))
"""The names of a prediction folder that belong to no video."""
RESERVED = frozenset(Path(name).stem for name in OWN)
"""Output names that would collide with them."""


class PersonSummary(Config):
    """One person in one video."""

    person: int
    frames: int
    valid: int
    """Frames with a picture of the person."""
    valence_mean: float
    arousal_mean: float
    valence_low: float
    """The tenth percentile; `valence_high` is the ninetieth."""
    valence_high: float
    arousal_low: float
    arousal_high: float


class VideoEntry(Config):
    """One video, predicted or failed."""

    name: str
    """What the names of its files begin with."""
    video: str
    """The path of the video; characters that cannot be printed are escaped."""
    state: Literal["predicted", "failed"]
    problem: str = ""
    """Why it failed."""
    key: str = ""
    """sha256 of everything that determines the predictions."""
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 by file name."""
    frames: int = 0
    duration_s: float = 0.0
    people: tuple[PersonSummary, ...] = ()
    notes: tuple[str, ...] = ()
    """What is unusual about the video, such as no sound."""

    def intact(self, folder: Path, key: str) -> frozenset[str]:
        """Return the names of its files in the folder, unchanged; none if the key is another."""
        return frozenset(
            name
            for name, digest in self.files.items()
            if self.key == key and (folder / name).is_file() and sha256_of(folder / name) == digest
        )


class Record(Config):
    """All videos of a prediction folder, by id."""

    format: str = FORMAT
    made_with: dict[str, str] = Field(default_factory=dict)
    """What made the newest predictions: names and values."""
    videos: dict[str, VideoEntry] = Field(default_factory=dict)

    def names(self) -> dict[str, str]:
        """Return the name of each video's files, by id."""
        return {video_id: entry.name for video_id, entry in self.videos.items()}


def read_record(output: Path) -> Record:
    """Return the record of a folder; an empty one if the folder is new or empty.

    Raises `InputError` if the folder holds something else or the record is damaged, and
    `LaterVersion` if its format is unknown.
    """
    check_writable(output, "output")
    path = output / RECORD
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        names = sorted(each.name for each in output.iterdir()) if output.is_dir() else []
        if others := [name for name in names if not name.startswith(".") and name not in OWN]:
            raise InputError(
                f"output = {output} holds files that are no predictions ({others[0]}"
                f"{' and others' if len(others) > 1 else ''}); give another folder"
            ) from None
        return Record()
    except (ValueError, IsADirectoryError) as error:
        raise InputError(f"{path} is not JSON ({error}); {REMEDY}") from None
    version = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(version, str):
        check_format(path, "a record of predictions", version, FORMAT, "predict")
    try:
        return Record.model_validate(fields)
    except ValidationError:
        raise InputError(f"{path} is no record of predictions; {REMEDY}") from None


REMEDY = "delete the folder, or give another one as output"


@contextmanager
def output_lock(output: Path) -> Iterator[None]:
    """Context manager: create the folder, and keep other predictions out of it.

    Raises `InputError` if one writes to it now.
    """
    output.mkdir(parents=True, exist_ok=True)
    lock = try_lock(output / LOCK)
    if lock is None:
        raise InputError(
            f"output = {output}: another prediction is writing to this folder; run the same again "
            "when it has ended, or give another folder"
        )
    try:
        yield
    finally:
        lock.release()


def write_record(output: Path, record: Record) -> None:
    """Write the record, whole or not at all."""
    write_json(output / RECORD, record.model_dump(mode="json"))


def with_entry(record: Record, video_id: str, entry: VideoEntry) -> Record:
    """Return the record with the entry of one video replaced."""
    return record.model_copy(update={"videos": {**record.videos, video_id: entry}})


def delete_files(
    output: Path, entry: VideoEntry | None, kept: Collection[str] = frozenset()
) -> None:
    """Delete the files of an earlier prediction of a video, but those that are kept."""
    for name in entry.files if entry else ():
        if name not in kept:
            (output / name).unlink(missing_ok=True)


def shown_path(path: Path) -> str:
    """The path of a video in one line."""
    return printable(str(path), layout="")


def made_with(facts: Mapping[str, object]) -> dict[str, str]:
    """The facts as text, without those that are None."""
    return {name: str(value) for name, value in facts.items() if value is not None}


def joined_notes(notes: Sequence[str | None]) -> tuple[str, ...]:
    """The notes, each once."""
    return tuple(dict.fromkeys(note for note in notes if note))
