"""Tracking: the faces of one frame are given the tracks of the frames before it.

A track is a person between two cuts. Faces and tracks are assigned one to one (Hungarian method) by
the overlap of boxes, so that the sum over all pairs is largest. Nothing is kept of a track but its
last state: the memory does not grow with the video.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float32, Float64, Int64
from pydantic import Field

from features.config import Config

Share = Annotated[float, Field(ge=0, le=1)]
Boxes = Float32[np.ndarray, "N 4"]
Embeddings = Float32[np.ndarray, "N D"]


class TrackerConfig(Config):
    """When two faces of different frames are of one person."""

    min_overlap: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Intersection over union of a face and where its track is expected."""
    max_gap_frames: Annotated[int, Field(ge=0)] = 15
    """Frames in a row without the face after which its track ends."""
    speed_memory: Share = 0.7
    """The share of the earlier speed in the smoothed speed of a track; 1 expects no movement."""
    appearance_weight: Annotated[float, Field(ge=0)] = 1.0
    """What a cosine of 1 between embeddings adds to the overlap; without embeddings no effect."""
    min_similarity: Share = 0.8
    """The cosine from which a face without overlap continues a track that was lost."""


@dataclass(slots=True)
class _Track:
    """The last state of a track."""

    id: int
    box_px: Float64[np.ndarray, "4"]
    speed_px: Float64[np.ndarray, "2"]
    """Of the centre, per frame."""
    embedding: Float64[np.ndarray, "D"] | None
    frame: int

    def expected_px(self, frame: int) -> Float64[np.ndarray, "4"]:
        """The box in a later frame, if the face goes on as it moved."""
        moved = self.box_px.copy()
        moved[:2] += self.speed_px * (frame - self.frame)
        return moved


class Tracker:
    """Assigns the faces of one frame after another to tracks."""

    def __init__(self, config: TrackerConfig) -> None:
        self.config = config
        self._tracks: list[_Track] = []
        self._frame = -1
        self._n_tracks = 0

    def update(
        self,
        boxes_px: Boxes,
        *,
        is_cut: bool = False,
        embeddings: Embeddings | None = None,
    ) -> Int64[np.ndarray, "N"]:
        """The track of each face of the next frame; new tracks are numbered on from 1.

        All tracks end at a cut. `embeddings` of the faces are compared where the overlap is
        ambiguous: in a frame with a new face, or with one near several tracks.
        """
        self._frame += 1
        last = self._frame - self.config.max_gap_frames - 1
        self._tracks = [] if is_cut else [t for t in self._tracks if t.frame >= last]
        boxes = boxes_px.astype(np.float64)
        overlap = overlaps(self._expected_px(), boxes)
        near = overlap >= self.config.min_overlap
        is_open = (near.sum(0) != 1).any() or (near.sum(1) > 1).any()
        vectors = None
        if is_open and len(boxes) and embeddings is not None:
            vectors = _normalised(embeddings)
        ids = np.zeros(len(boxes), dtype=np.int64)
        cosine = self._cosines(vectors, len(boxes))
        gain = overlap + self.config.appearance_weight * cosine
        self._assign(ids, boxes, vectors, gain, near)
        if vectors is not None:
            self._assign(ids, boxes, vectors, cosine, cosine >= self.config.min_similarity)
        for face in np.flatnonzero(ids == 0):
            self._n_tracks += 1
            ids[face] = self._n_tracks
            vector = None if vectors is None else vectors[face]
            track = _Track(self._n_tracks, boxes[face], np.zeros(2), vector, self._frame)
            self._tracks.append(track)
        return ids

    @property
    def followed(self) -> frozenset[int]:
        """The tracks that the next face may continue, unless a shot begins there."""
        last = self._frame - self.config.max_gap_frames
        return frozenset(track.id for track in self._tracks if track.frame >= last)

    def _expected_px(self) -> Float64[np.ndarray, "M 4"]:
        expected = [track.expected_px(self._frame) for track in self._tracks]
        return np.array(expected, dtype=np.float64).reshape(-1, 4)

    def _cosines(
        self, vectors: Float64[np.ndarray, "N D"] | None, n_faces: int
    ) -> Float64[np.ndarray, "M N"]:
        """The cosine of each track and each face; 0 where one has no embedding."""
        cosines = np.zeros((len(self._tracks), n_faces))
        for row, track in enumerate(self._tracks):
            if vectors is not None and track.embedding is not None:
                cosines[row] = vectors @ track.embedding
        return cosines

    def _assign(
        self,
        ids: Int64[np.ndarray, "N"],
        boxes: Float64[np.ndarray, "N 4"],
        vectors: Float64[np.ndarray, "N D"] | None,
        gain: Float64[np.ndarray, "M N"],
        is_allowed: np.ndarray,
    ) -> None:
        """Give allowed pairs of largest total gain to faces and tracks that are still free."""
        from scipy.optimize import linear_sum_assignment  # takes a third of a second

        seen = np.array([track.frame == self._frame for track in self._tracks], dtype=bool)
        allowed = is_allowed & ~seen[:, None] & (ids == 0)
        gains = np.where(allowed, gain - gain.min(initial=0.0) + 1, 0.0)  # more pairs are better
        rows, faces = linear_sum_assignment(gains, maximize=True)
        for row, face in zip(rows, faces, strict=True):
            if not allowed[row, face]:
                continue
            track = self._tracks[row]
            ids[face] = track.id
            n_frames = self._frame - track.frame
            speed = (_centre(boxes[face]) - _centre(track.box_px)) / n_frames
            memory = self.config.speed_memory
            track.speed_px = memory * track.speed_px + (1 - memory) * speed
            track.box_px, track.frame = boxes[face], self._frame
            if vectors is not None:
                track.embedding = vectors[face]


def overlaps(
    first: Float64[np.ndarray, "M 4"], second: Float64[np.ndarray, "N 4"]
) -> Float64[np.ndarray, "M N"]:
    """The intersection over union of boxes (left, top, width, height)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    ends = first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:]
    high = np.minimum(ends[0][:, None], ends[1][None])
    shared = np.clip(high - low, 0, None).prod(-1)
    areas = first[:, 2:].prod(-1)[:, None] + second[:, 2:].prod(-1)[None]
    return shared / np.maximum(areas - shared, np.finfo(np.float64).tiny)


def _centre(box: Float64[np.ndarray, "4"]) -> Float64[np.ndarray, "2"]:
    return box[:2] + box[2:] / 2


def _normalised(embeddings: Embeddings) -> Float64[np.ndarray, "N D"]:
    vectors = embeddings.astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
