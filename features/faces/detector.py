"""What every face detector gives: the faces of one image."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from features.canonical_json import JsonObject

LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""As seen in the image: the left eye of an upright face has the smaller x."""
Points = Float32[np.ndarray, "N 5 2"]
BEFORE_NMS = 5000  # candidates of highest score, as in OpenCV and in the code of RetinaFace


@dataclass(frozen=True, slots=True)
class Faces:
    """The faces of one image, the highest score first; lengths in its pixels."""

    boxes_px: Float32[np.ndarray, "N 4"]
    """Left, top, width, height; may reach beyond the image."""
    landmarks_px: Points
    """x and y of each of `LANDMARKS`; pixel (0, 0) is at the origin."""
    scores: Float32[np.ndarray, "N"]
    """0 to 1."""

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, faces: np.ndarray | slice) -> "Faces":
        """Some of the faces."""
        return Faces(self.boxes_px[faces], self.landmarks_px[faces], self.scores[faces])


NO_FACES = Faces(
    np.zeros((0, 4), np.float32), np.zeros((0, 5, 2), np.float32), np.zeros(0, np.float32)
)


def best_faces(
    boxes_px: Float[Tensor, "N 4"],
    landmarks_px: Float[Tensor, "N 5 2"],
    scores: Float[Tensor, "N"],
    max_overlap: float,
) -> Faces:
    """The candidates that overlap none of a higher score by more (intersection over union)."""
    from torchvision.ops import nms  # takes seconds

    if not len(scores):
        return NO_FACES
    scores, order = scores.sort(descending=True, stable=True)
    order, scores = order[:BEFORE_NMS], scores[:BEFORE_NMS]
    boxes = boxes_px[order]
    corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)
    kept = nms(corners, scores, max_overlap)
    return Faces(boxes[kept].numpy(), landmarks_px[order[kept]].numpy(), scores[kept].numpy())


@runtime_checkable
class Detector(Protocol):
    """Finds faces in one image at a time; keeps no state between images."""

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Faces:
        """The faces of an RGB image."""
        ...


@runtime_checkable
class DetectorConfig(Protocol):
    """Settings of a detector; every field decides values."""

    kind: str

    def weights_sha256(self) -> str:
        """The sha256 of the file of weights; raises `WeightsError` if there is none."""
        ...

    def as_spec(self) -> JsonObject:
        """What decides the faces beside the weights; no path is part of it."""
        ...

    def build(self) -> Detector:
        """Load the detector; raises `WeightsError` if the weights do not fit."""
        ...
