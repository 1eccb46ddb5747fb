"""The detector YuNet (Shiqi Yu), the default: fast on a CPU, its weights come with vaflow.

It finds the same faces as OpenCV's `FaceDetectorYN` does with the same thresholds.
"""

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from features.errors import WeightsError
from features.faces.detector import ConvolutionalDetector, NetworkConfig, Share
from features.faces.yunet_model import N_LANDMARKS, LevelOutput, YuNet
from features.system.weights_file import WeightsFile

SHIPPED = Path(__file__).parent / "weights" / "yunet-2023mar.safetensors"


class YuNetConfig(NetworkConfig):
    """YuNet with its thresholds."""

    kind: Literal["yunet"] = "yunet"
    weights: Path | None = None
    """A safetensors file of weights; null is the one that comes with vaflow (2023mar)."""
    max_overlap: Share = 0.3
    """Of two boxes with a higher intersection over union, the one of higher score is kept."""

    def build(self) -> "YuNetDetector":
        """Load the detector; raises `WeightsError` if the weights are not those of YuNet."""
        file, network = self.weights_file(), YuNet()
        try:
            network.load_state_dict(load_file(file.path))
        except (SafetensorError, RuntimeError, OSError) as error:
            raise WeightsError(
                f"{file.path} holds no weights of YuNet ({str(error).splitlines()[0]}); "
                "features/faces/convert_yunet.py makes them from the ONNX file"
            ) from None
        file.check_unchanged()
        return YuNetDetector(network, self)

    def weights_file(self) -> WeightsFile:
        """The file of weights; raises `WeightsError` if there is none."""
        path = self.weights or SHIPPED
        if not path.is_file():
            raise WeightsError(
                f"there is no file of weights {path}; correct `weights`, or leave it out for the "
                "one that comes with vaflow"
            )
        return WeightsFile.of(path)


class YuNetDetector(ConvolutionalDetector[LevelOutput]):
    """A loaded YuNet."""

    def decode(
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
