"""The people in the videos of a prediction: each is a clip of the feature store.

A person's pictures are the whole frames of the video, or aligned crops of a face.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field, ValidationError

from features.clip import Clip
from features.errors import MediaError
from features.faces.record import n_people, person_faces
from features.manifest.manifest import Manifest
from features.spec import FeatureSpec
from features.store.feature_store import FeatureStore
from models.prediction.videos import video_id

ROOT = Path("/")  # to which the paths of the clips are relative: videos lie anywhere

Boxes = Float64[np.ndarray, "T 4"]
"""Left, top, width and height in pixels of the upright frame; NaN without a face."""


MaxPeople = Literal["all", "largest"] | Annotated[int, Field(ge=1)]
"""How many people of a video are predicted: those whose faces cover the largest area."""


@dataclass(frozen=True, slots=True)
class Person:
    """One person in one video."""

    number: int
    """Counted from 1 in the video."""
    clip: Clip
    read_boxes: Callable[[], Boxes] | None = None
    """Returns the face's box in each frame; None if the whole frames are encoded."""


@dataclass(frozen=True, slots=True)
class VideoPeople:
    """A video with the people in it."""

    path: Path
    name: str
    """What the names of its output files begin with."""
    people: tuple[Person, ...]

    @property
    def id(self) -> str:
        """The id of the video, with which those of its clips begin."""
        return video_id(self.path)


def whole_frame(path: Path, name: str) -> VideoPeople:
    """Return the video with one person, whose pictures are the whole frames.

    Raises `MediaError` if a manifest cannot name the path.
    """
    try:
        clip = Clip(id=video_id(path), video=str(path.relative_to(ROOT)))
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise MediaError(reason, "unreadable") from None
    return VideoPeople(path, name, (Person(1, clip),))


def people_with_faces(
    video: VideoPeople, store: FeatureStore, faces: FeatureSpec, max_people: MaxPeople
) -> VideoPeople:
    """Return the video with a clip for each person whose face was found in it.

    The first has the clip of the video itself, whose record of faces the other clips get a copy of:
    nothing is searched twice. Raises `MediaError` if there is no face.
    """
    (whole,) = video.people
    record = store.read(faces.name, whole.clip.id)
    limit = {"all": n_people(record), "largest": 1}.get(str(max_people), max_people)
    n = min(n_people(record), int(limit))
    if not n:
        raise MediaError(
            f"no face was found in its {len(record.time_s)} frames; frames=whole predicts from "
            "whole frames",
            "faces",
        )
    people = []
    for number in range(1, n + 1):
        clip_id = whole.clip.id if number == 1 else f"{whole.clip.id}.p{number}"
        copy_record(store, faces, whole.clip.id, clip_id)
        clip = whole.clip.model_copy(
            update={"id": clip_id, "person": None if number == 1 else number}
        )
        people.append(
            Person(number, clip, partial(_read_boxes, store, faces.name, clip_id, number))
        )
    return VideoPeople(video.path, video.name, tuple(people))


def copy_record(store: FeatureStore, spec: FeatureSpec, from_id: str, to_id: str) -> None:
    """Give a clip the record of another one, unless it has it; nothing if there is none."""
    commit, copied = store.commit(spec.name, from_id), store.commit(spec.name, to_id)
    if commit and from_id != to_id and (copied is None or copied.files != commit.files):
        record = store.read(spec.name, from_id)
        store.write(spec, to_id, record, source=commit.source, provenance=commit.provenance)


def _read_boxes(store: FeatureStore, faces: str, clip_id: str, number: int) -> Boxes:
    face = person_faces(store.read(faces, clip_id), number)
    return np.where(face.is_seen[:, None], face.boxes_px, np.nan).astype(np.float64)


def manifest_of(videos: Iterable[VideoPeople]) -> Manifest:
    """Return the clips of all people in all videos."""
    return Manifest(ROOT, tuple(each.clip for video in videos for each in video.people))
