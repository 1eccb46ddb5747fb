"""A record of faces: where each person of a video is in each frame, as an array of rows.

The values of a row are `N_COLUMNS` numbers for each person, who keep their place in all rows:

    0-3    left, top, width and height of the box      4-13   x and y of each of `LANDMARKS`
    14     score, 0 where the person is not seen       15     track, from 1; new after a gap or cut

Lengths are in pixels of the frame as a player shows it. A row is valid if the frame decoded.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from features.clip import Track
from features.faces.detector import Faces

N_COLUMNS = 16
SCORE, TRACK = 14, 15


@dataclass(frozen=True, slots=True)
class PersonFaces:
    """The face of one person in every frame of a video."""

    time_s: Float64[np.ndarray, "T"]
    boxes_px: Float32[np.ndarray, "T 4"]
    landmarks_px: Float32[np.ndarray, "T 5 2"]
    scores: Float32[np.ndarray, "T"]
    tracks: Float32[np.ndarray, "T"]
    is_decoded: Bool[np.ndarray, "T"]
    """Whether the frame was decoded, and so looked at."""

    @property
    def is_seen(self) -> Bool[np.ndarray, "T"]:
        """Whether the face is in the frame; other fields are 0 where it is not."""
        return self.scores > 0


def face_columns(faces: Faces) -> Float32[np.ndarray, "N 16"]:
    """The numbers of each face, with the track left at 0."""
    columns = np.zeros((len(faces), N_COLUMNS), np.float32)
    columns[:, :4] = faces.boxes_px
    columns[:, 4:SCORE] = faces.landmarks_px.reshape(-1, 10)
    columns[:, SCORE] = faces.scores
    return columns


def person_faces(record: Track, person: int) -> PersonFaces:
    """The face of a person, counted from 1; never seen if the record has fewer people."""
    columns = np.zeros((len(record.values), N_COLUMNS), np.float32)
    first = (person - 1) * N_COLUMNS
    if first < record.values.shape[1]:
        columns = record.values[:, first : first + N_COLUMNS]
    return PersonFaces(
        record.time_s,
        columns[:, :4],
        columns[:, 4:SCORE].reshape(-1, 5, 2),
        columns[:, SCORE],
        columns[:, TRACK],
        record.valid,
    )


def n_people(record: Track) -> int:
    """How many people of the video the record has."""
    scores = record.values[:, SCORE::N_COLUMNS]
    return int((scores > 0).any(0).sum())
