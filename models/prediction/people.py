"""The people in the videos of a prediction: each is a clip of the feature store.

A person's pictures are the whole frames of the video, or crops of a face. Both are encoded by the
encoders that a head reads, so only the clip's id tells which they are.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from pydantic import ValidationError

from features.clip import Clip
from features.errors import MediaError
from features.manifest.manifest import Manifest
from models.prediction.videos import video_id

ROOT = Path("/")  # to which the paths of the clips are relative: videos lie anywhere

Boxes = Float64[np.ndarray, "T 4"]
"""Left, top, width and height in pixels of the upright frame; NaN without a face."""


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


def manifest_of(videos: Iterable[VideoPeople]) -> Manifest:
    """Return the clips of all people in all videos."""
    return Manifest(ROOT, tuple(each.clip for video in videos for each in video.people))
