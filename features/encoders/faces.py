"""The faces of a video: detected in each frame, tracked, and joined into people.

It is an encoder like the others, so that faces are stored, verified and resumed as features are.
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from features.clip import Source, Track
from features.config import Config
from features.encoders.base import Precision, tracks_of
from features.errors import MediaError
from features.faces import AnyDetectorConfig, YuNetConfig
from features.faces.cuts import CutConfig, CutDetector
from features.faces.people import LOOK_WIDTH, PeopleConfig, TrackSummary, appearance, people_of
from features.faces.record import N_COLUMNS, TRACK, face_columns, person_faces
from features.faces.tracker import Tracker, TrackerConfig
from features.media.alignment import AlignmentConfig
from features.media.decoder import Decoder
from features.media.display import Image
from features.media.sampling import EVERY_FRAME, Sampling
from features.spec import FeatureSpec, Modality
from features.timeline import FrameTimes

EPOCH = 1  # of this module and features.faces, see FeatureSpec.epoch
MAX_FACES = 16  # of a frame; of more, those of highest score


class FacesConfig(Config):
    """How the faces of a video are found, followed and cut out."""

    kind: Literal["faces"] = "faces"
    modality: ClassVar[Modality] = "faces"
    precision: ClassVar[Precision] = "float32"
    detector: AnyDetectorConfig = YuNetConfig()
    """Finds the faces of a frame."""
    tracker: TrackerConfig = TrackerConfig()
    """Follows them from frame to frame."""
    cuts: CutConfig = CutConfig()
    """Where shots begin: no face is followed beyond."""
    people: PeopleConfig = PeopleConfig()
    """Joins what was followed into people."""
    alignment: AlignmentConfig = AlignmentConfig()
    """How a face is cut out of its frame."""

    def spec(self) -> FeatureSpec:
        """Everything that decides the values; hashes the weights, builds no network."""
        return FeatureSpec(
            kind=self.kind,
            model={
                "name": self.detector.kind,
                "detector": self.detector.as_spec(),
                "tracker": self.tracker.model_dump(mode="json"),
                "cuts": self.cuts.model_dump(mode="json"),
                "people": self.people.model_dump(mode="json"),
            },
            weights_sha256=self.detector.weights_sha256(),
            preprocessing={},
            sampling={"rows": "every frame", "time": "presentation"},
            precision=self.precision,
            stored="float32",
            epoch=EPOCH,
        )

    def build(self, device: torch.device) -> "FacesEncoder":
        """Load the detector, on the CPU; `WeightsError` if the weights are not those of it."""
        return FacesEncoder(self)


@dataclass(frozen=True, slots=True)
class FacesLayout:
    """The times of the frames, and the people that the tracks belong to."""

    times: FrameTimes
    people: list[list[TrackSummary]]
    """All of them, also those beyond `max_people`."""


class FacesEncoder:
    """Detects and follows faces while a video is read, in the thread that reads it."""

    modality: Modality = "faces"
    rate_hz: int | None = None
    cpu_batch = gpu_batch = 256  # rows, which are only collected

    def __init__(self, config: FacesConfig) -> None:
        self.spec = config.spec()
        self.device = torch.device("cpu")
        self.config = config
        self.detector = config.detector.build()

    def blank(self, n_items: int) -> Float32[Tensor, "N W"]:
        """Rows without a face."""
        return torch.zeros((n_items, MAX_FACES * N_COLUMNS))

    def read(
        self, source: Source, decoder: Decoder
    ) -> Generator[Float32[Tensor, "N W"] | FacesLayout, None, None]:
        """Yield the faces of each frame with their tracks; the last item says who they are."""
        if source.video is None:
            raise MediaError(
                f"clip {source.clip_id!r} has no `video` to find faces in; add one to its line",
                "missing",
            )
        finder = FaceFinder(self)
        frames = decoder.frames(source.video, source.fps, tracks=tracks_of(source))
        with closing(frames):
            for item in frames:
                if isinstance(item, list):
                    yield torch.from_numpy(np.stack([finder.row(image) for image in item]))
                else:
                    people = people_of(list(finder.tracks.values()), self.config.people)
                    yield FacesLayout(item, people)

    def encode(self, items: Float32[Tensor, "N W"]) -> Float32[Tensor, "N W"]:
        """The rows: the work is done when they are read."""
        return items

    def assemble(self, outputs: Iterable[Tensor], layout: FacesLayout) -> tuple[Track, str | None]:
        """One row per frame, with a place for each person; valid if the frame was decoded."""
        times, n_rows = layout.times, len(layout.times.time_s)
        values = np.zeros((n_rows, self.config.people.max_people, N_COLUMNS), np.float32)
        kept = layout.people[: self.config.people.max_people]
        place_of = {t.id: place for place, person in enumerate(kept) for t in person}
        first = 0
        for output in outputs:
            rows = times.rows[first : first + len(output)]
            faces = output.numpy().reshape(len(output), MAX_FACES, N_COLUMNS)
            for at, column in np.argwhere(faces[..., TRACK] > 0):
                place = place_of.get(int(faces[at, column, TRACK]))
                if place is not None:
                    values[rows[at], place] = faces[at, column]
            first += len(output)
        valid = np.zeros(n_rows, dtype=bool)
        valid[times.rows] = True
        notes = [times.note, None if kept else f"no face in {len(times.rows)} frames"]
        if len(kept) < len(layout.people):
            notes.append(
                f"{len(layout.people)} people were seen, and the {len(kept)} whose faces are "
                "largest are kept (faces.people.max_people)"
            )
        track = Track(values.reshape(n_rows, -1), times.time_s, valid)
        return track, "; ".join(note for note in notes if note) or None


def aligned_crops(
    source: Source, config: FacesConfig, decoder: Decoder, sampling: Sampling = EVERY_FRAME
) -> Generator[tuple[list[int], list[Image]] | FrameTimes, None, None]:
    """Yield rows and crops of the clip's person, some at a time; the last item has all times.

    The crops are valid until the next item. A sampled frame that does not show the face has no
    crop. Raises `MediaError` if the clip has no
    record of faces, or one of another decoding of the video.
    """
    assert source.video is not None
    if source.read_faces is None:
        raise MediaError(f"clip {source.clip_id!r} has no faces: extract them first", "faces")
    face = person_faces(source.read_faces(config.spec().name), source.person or 1)
    sampled = sampling.select(enumerate(face.time_s.tolist()))
    rows = [row for row in sampled if face.is_decoded[row]]
    landmarks_px = np.where(face.is_seen[:, None, None], face.landmarks_px, np.float32(np.nan))
    seen = [row for row in rows if face.is_seen[row]]
    n_read = 0
    crops = decoder.face_crops(
        source.video,
        source.fps,
        sampling,
        tracks_of(source),
        config.alignment,
        landmarks_px[rows],
    )
    with closing(crops):
        for item in crops:
            if isinstance(item, FrameTimes):
                if item.rows.tolist() != rows:
                    raise MediaError(
                        f"the faces of clip {source.clip_id!r} are of another decoding of "
                        f"{source.video}; extract with force=true",
                        "faces",
                    )
                yield item
                continue
            yield seen[n_read : n_read + len(item)], item
            n_read += len(item)


class FaceFinder:
    """The faces of the frames of one video, one after another."""

    def __init__(self, encoder: FacesEncoder) -> None:
        self._detector = encoder.detector
        self._cuts = CutDetector(encoder.config.cuts)
        self._tracker = Tracker(encoder.config.tracker)
        self._n_frames = 0
        self.tracks: dict[int, TrackSummary] = {}
        """Of all frames so far, by id."""

    def row(self, image: Image) -> Float32[np.ndarray, "W"]:
        """The numbers of each face in the next frame."""
        faces = self._detector.detect(image)[:MAX_FACES]
        looks = np.zeros((len(faces), LOOK_WIDTH), np.float32)
        for look, points in zip(looks, faces.landmarks_px, strict=True):
            look[:] = appearance(image, points)
        is_cut = self._cuts.is_cut(image)
        ids = self._tracker.update(faces.boxes_px, is_cut=is_cut, embeddings=looks)
        columns = np.zeros((MAX_FACES, N_COLUMNS), np.float32)
        columns[: len(faces)] = face_columns(faces)
        columns[: len(faces), TRACK] = ids
        for track, box, look in zip(ids.tolist(), faces.boxes_px, looks, strict=True):
            summary = self.tracks.setdefault(track, TrackSummary(track, self._n_frames))
            summary.add(self._n_frames, float(box[2] * box[3]), look.astype(np.float64))
        self._n_frames += 1
        return columns.ravel()

    @property
    def followed(self) -> frozenset[int]:
        """The tracks that have not ended: a face of one of them may be seen again."""
        return self._tracker.followed

    def forget_ended(self) -> None:
        """Forget the tracks that have ended: of a stream without end, not all can be kept."""
        self.tracks = {track: self.tracks[track] for track in self.followed}
