"""The people of a video: tracks that gaps or cuts have separated are joined by appearance."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image
from pydantic import Field

from features.config import Config
from features.media.alignment import AlignmentConfig

THUMBNAIL_PX = 8
LOOK_WIDTH = 3 * THUMBNAIL_PX**2  # numbers of an appearance
MAX_TRACKS = 256  # of a video that are joined: the largest, so that a crowd takes no time
AROUND = AlignmentConfig(side_px=32, margin=0.25)


class PeopleConfig(Config):
    """Which tracks are of one person."""

    max_people: Annotated[int, Field(ge=1, le=64)] = 8
    """People kept of a video: those whose faces cover the largest area, summed over its frames."""
    min_frames: Annotated[int, Field(ge=1)] = 3
    """People seen in fewer frames are left out, unless the video is shorter."""
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = 0.75
    """The cosine of mean appearances from which two tracks, one after the other, are joined."""


@dataclass(slots=True)
class TrackSummary:
    """What is kept of one track."""

    id: int
    first_row: int
    last_row: int = -1
    n_rows: int = 0
    area_px2: float = 0.0
    """Of the boxes, summed over frames."""
    appearance: Float64[np.ndarray, "D"] = field(default_factory=lambda: np.zeros(1))
    """Sum over frames."""

    def add(self, row: int, area_px2: float, appearance: Float64[np.ndarray, "D"]) -> None:
        """Count the face in one frame."""
        self.last_row, self.n_rows = row, self.n_rows + 1
        self.area_px2 += area_px2
        self.appearance = self.appearance + appearance


def appearance(
    image: UInt8[np.ndarray, "H W 3"], landmarks_px: Float32[np.ndarray, "5 2"]
) -> Float64[np.ndarray, "D"]:
    """A tiny picture of a face and what is around it, without its mean brightness, of length 1.

    It tells people of one video apart by hair, skin, clothes and light; it does not recognise
    anybody. `PeopleConfig.min_similarity` was chosen on a handful of drawn and filmed people.
    """
    around = Image.fromarray(AROUND.crop(image, landmarks_px))
    small = np.asarray(around.reduce(AROUND.side_px // THUMBNAIL_PX), np.float64)
    vector = (small - small.mean()).ravel()
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def people_of(tracks: Sequence[TrackSummary], config: PeopleConfig) -> list[list[TrackSummary]]:
    """The tracks of each person, who is seen largest and longest first.

    Tracks are joined in the order in which they begin, each to the person before it who is most
    similar and no longer seen. There may be more than `max_people`.
    """
    n_rows = max((track.last_row for track in tracks), default=-1) + 1
    largest = sorted(tracks, key=lambda track: (-track.area_px2, track.id))[:MAX_TRACKS]
    people: list[list[TrackSummary]] = []
    for track in sorted(largest, key=lambda track: (track.first_row, track.id)):
        free = [person for person in people if person[-1].last_row < track.first_row]
        cosines = [_cosine(person, track) for person in free]
        if cosines and max(cosines) >= config.min_similarity:
            free[int(np.argmax(cosines))].append(track)
        else:
            people.append([track])
    seen = [p for p in people if sum(t.n_rows for t in p) >= min(config.min_frames, n_rows)]
    seen.sort(key=lambda person: (-sum(t.area_px2 for t in person), person[0].id))
    return seen


def _cosine(person: Sequence[TrackSummary], track: TrackSummary) -> float:
    one = np.sum([each.appearance for each in person], axis=0)
    norms = float(np.linalg.norm(one) * np.linalg.norm(track.appearance))
    return float(one @ track.appearance) / max(norms, 1e-12)
