"""The detector YuNet (Shiqi Yu), the default: fast on a CPU, its weights come with vaflow.

It finds the same faces as OpenCV's `FaceDetectorYN` does with the same thresholds.
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from features.canonical_json import JsonObject
from features.config import Config
from features.errors import WeightsError
from features.faces.detector import Faces, best_faces
from features.faces.yunet_model import N_LANDMARKS, SIDE_PX, LevelOutput, YuNet
from features.system.weights_file import WeightsFile

SHIPPED = Path(__file__).parent / "weights" / "yunet-2023mar.safetensors"
Share = Annotated[float, Field(ge=0, le=1)]


class YuNetConfig(Config):
    """YuNet with its thresholds."""

    kind: Literal["yunet"] = "yunet"
    weights: Path | None = None
    """A safetensors file of weights; null is the one that comes with vaflow (2023mar)."""
    min_score: Share = 0.7
    """Faces of a lower score are left out."""
    max_overlap: Share = 0.3
    """Of two boxes with a higher intersection over union, the one of higher score is kept."""

    def weights_sha256(self) -> str:
        """The sha256 of the file of weights; raises `WeightsError` if there is none."""
        return self._file().sha256

    def as_spec(self) -> JsonObject:
        """What decides the faces beside the weights."""
        return self.model_dump(mode="json", exclude={"weights"})

    def build(self) -> "YuNetDetector":
        """Load the detector; raises `WeightsError` if the weights are not those of YuNet."""
        file, network = self._file(), YuNet()
        try:
            network.load_state_dict(load_file(file.path))
        except (SafetensorError, RuntimeError, OSError) as error:
            raise WeightsError(
                f"{file.path} holds no weights of YuNet ({str(error).splitlines()[0]}); "
                "features/faces/convert_yunet.py makes them from the ONNX file"
            ) from None
        file.check_unchanged()
        return YuNetDetector(network, self)

    def _file(self) -> WeightsFile:
        path = self.weights or SHIPPED
        if not path.is_file():
            raise WeightsError(
                f"there is no file of weights {path}; correct `weights`, or leave it out for the "
                "one that comes with vaflow"
            )
        return WeightsFile.of(path)


class YuNetDetector:
    """A loaded YuNet, on the CPU: an image at a time, as batches are slower there."""

    def __init__(self, network: YuNet, config: YuNetConfig) -> None:
        self.network = network.eval()
        self.config = config

    @torch.inference_mode()
    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Faces:
        """The faces of an RGB image; it is padded with black to multiples of 32 pixels."""
        height, width, _ = image.shape
        bgr = np.zeros((height + -height % SIDE_PX, width + -width % SIDE_PX, 3), np.float32)
        bgr[:height, :width] = image[..., ::-1]
        padded = torch.from_numpy(bgr).permute(2, 0, 1)[None]  # channels last halves the time
        levels = [self._decode(level) for level in self.network(padded)]
        boxes, landmarks, scores = (torch.cat(parts) for parts in zip(*levels, strict=True))
        return best_faces(boxes, landmarks, scores, self.config.max_overlap)

    def _decode(
        self, level: LevelOutput
    ) -> tuple[Float[Tensor, "N 4"], Float[Tensor, "N 5 2"], Float[Tensor, "N"]]:
        """Boxes, landmarks and scores of the cells above the threshold, in pixels."""
        stride = level.stride_px
        [cells] = (level.score[0] >= self.config.min_score).nonzero(as_tuple=True)
        cell_xy = torch.stack([cells % level.n_columns, cells // level.n_columns], dim=1)
        box = level.box[0, cells]
        centre, size = (cell_xy + box[:, :2]) * stride, box[:, 2:].exp() * stride
        points = level.landmarks[0, cells].unflatten(1, (N_LANDMARKS, 2))
        landmarks = (points + cell_xy[:, None]) * stride
        return torch.cat([centre - size / 2, size], dim=1), landmarks, level.score[0, cells]
