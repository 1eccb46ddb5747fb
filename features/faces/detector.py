"""What every face detector gives: the faces of one image."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Generic,
    Protocol,
    TypeVar,
    runtime_checkable,
)

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from pydantic import Field
from torch import Tensor, nn

from features.canonical_json import JsonObject
from features.config import Config
from features.system.weights_file import WeightsFile

LANDMARKS = ("left eye", "right eye", "nose", "left mouth corner", "right mouth corner")
"""As seen in the image: the left eye of an upright face has the smaller x."""
Points = Float32[np.ndarray, "N 5 2"]
SIDE_PX = 32  # images are padded to multiples, the largest stride
Share = Annotated[float, Field(ge=0, le=1)]
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


class DetectorConfig(Config, ABC):
    """Settings of a detector; every field affects the values. A subclass adds its `kind`."""

    if TYPE_CHECKING:
        kind: Any

    min_score: Share = 0.7
    """Faces of a lower score are left out."""
    max_overlap: Share
    """Of two boxes with a higher intersection over union, the one of higher score is kept."""

    @abstractmethod
    def weights_sha256(self) -> str:
        """The sha256 of the file of weights, or of no bytes for a detector without weights."""

    def as_spec(self) -> JsonObject:
        """What determines the faces beside the weights; no path is part of it."""
        return self.model_dump(mode="json", exclude={"weights"})

    @abstractmethod
    def build(self) -> Detector:
        """Load the detector; raises `WeightsError` if the weights do not fit."""


class NetworkConfig(DetectorConfig, ABC):
    """Settings of a detector with a file of weights."""

    def weights_sha256(self) -> str:
        """The sha256 of the file of weights; raises `WeightsError` if there is none."""
        return self.weights_file().sha256

    @abstractmethod
    def weights_file(self) -> WeightsFile:
        """The file of weights; raises `WeightsError` if there is none."""


LevelT = TypeVar("LevelT")


class ConvolutionalDetector(ABC, Generic[LevelT]):
    """A loaded network with outputs at several strides, on the CPU.

    It takes an image at a time, as batches are slower there.
    """

    mean_bgr: ClassVar[tuple[float, float, float] | None] = None
    """Of the training pictures, taken off."""

    def __init__(self, network: nn.Module, config: NetworkConfig) -> None:
        self.network = network.eval()
        self.config = config

    @torch.inference_mode()
    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Faces:
        """The faces of an RGB image; it is padded with black to multiples of 32 pixels."""
        height, width, _ = image.shape
        bgr = np.zeros((height + -height % SIDE_PX, width + -width % SIDE_PX, 3), np.float32)
        bgr[:height, :width] = image[..., ::-1]
        if self.mean_bgr:
            bgr -= np.array(self.mean_bgr, np.float32)
        padded = torch.from_numpy(bgr).permute(2, 0, 1)[None]  # channels last halves the time
        levels = [self.decode(level) for level in self.network(padded)]
        boxes, landmarks, scores = (torch.cat(parts) for parts in zip(*levels, strict=True))
        return best_faces(boxes, landmarks, scores, self.config.max_overlap)

    @abstractmethod
    def decode(
        self, level: LevelT
    ) -> tuple[Float[Tensor, "N 4"], Float[Tensor, "N 5 2"], Float[Tensor, "N"]]:
        """Boxes, landmarks and scores of the candidates above the threshold, in pixels."""
