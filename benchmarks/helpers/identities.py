"""Whether a record of faces tells people apart who walk past each other."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from features.clip import Source, Track
from features.encoders.faces import FacesConfig
from features.faces.record import person_faces
from features.faces.tracker import overlaps
from features.media.decoder import Decoder
from features.synthetic.crossing import RATE_HZ, CrossingFrame
from features.timeline import FrameTimes

MIN_OVERLAP = 0.3  # intersection over union of a found face and the drawn one
PIECE = 16  # frames


@dataclass(frozen=True, slots=True)
class Identities:
    """Counts over people and frames; forms a monoid under `+`."""

    n_visible: int = 0
    """Faces of which at least half is to be seen."""
    n_found: int = 0
    """Of these, those that the record has."""
    n_right: int = 0
    """Of these, those that it has as the person who they are in most frames."""

    def __add__(self, other: "Identities") -> "Identities":
        return Identities(
            self.n_visible + other.n_visible,
            self.n_found + other.n_found,
            self.n_right + other.n_right,
        )


class _Frames(Decoder):
    """A decoder of frames that are in memory, without a process."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self.images = images

    def frames(
        self, *_: object, **__: object
    ) -> Generator[list[np.ndarray] | FrameTimes, None, None]:
        """Yield the frames, some at a time, and their times."""
        n = len(self.images)
        for first in range(0, n, PIECE):
            yield list(self.images[first : first + PIECE])
        yield FrameTimes(np.arange(n) / RATE_HZ, np.arange(n), None)


def faces_of(config: FacesConfig, images: Sequence[np.ndarray]) -> Track:
    """The record of faces of a video, without a file: detector, tracker and people."""
    encoder = config.build(torch.device("cpu"))
    decoder = _Frames(images)
    *rows, layout = encoder.read(Source("drawn", Path("drawn.mp4"), None, None, None), decoder)
    return encoder.assemble((encoder.encode(each) for each in rows), layout)[0]


def identities(frames: Sequence[CrossingFrame], record: Track) -> Identities:
    """Compare a record with the truth; each drawn person is one of the record's, or none."""
    truth = np.stack([frame.boxes_px for frame in frames])
    visible = np.stack([frame.visible for frame in frames])
    n_people = truth.shape[1]
    found = np.full(visible.shape, -1)  # the record's person at each drawn face
    people = [person_faces(record, k + 1) for k in range(record.values.shape[1] // 16)]
    for row in range(len(frames)):
        boxes = np.array([each.boxes_px[row] for each in people], np.float64)
        overlap = overlaps(truth[row], boxes)
        for drawn, person in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[drawn, person] >= MIN_OVERLAP:
                found[row, drawn] = person
    counts = np.array(
        [
            [(visible[:, k] & (found[:, k] == each)).sum() for each in range(len(people))]
            for k in range(n_people)
        ]
    )
    right = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return Identities(int(visible.sum()), int((visible & (found >= 0)).sum()), int(right))
