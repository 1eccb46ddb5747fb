"""The detector RetinaFace (mobilenet0.25): closer landmarks, with weights of the user's own.

vaflow brings no weights for it. It reads those of the widely used implementation in PyTorch
(biubug6/Pytorch_Retinaface), such as mobilenet0.25_Final.pth.
"""

import pickle  # for its exception only: weights are loaded by torch's safe loader
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from features.errors import WeightsError, one_line
from features.faces.detector import LANDMARKS, ConvolutionalDetector, NetworkConfig, Share
from features.faces.retinaface_model import (
    PRIOR_SIDES_PX,
    STRIDES,
    LevelOutput,
    RetinaFace,
    fuse_batch_norms,
)
from features.system.weights_file import WeightsFile

OFFSET_SCALE, SIZE_SCALE = 0.1, 0.2  # of the outputs, in sides of the prior ("variance")
PARALLEL_PREFIX = "module."  # of keys that were saved from `DataParallel`


class RetinaFaceConfig(NetworkConfig):
    """RetinaFace with a MobileNet of a quarter of its width, and its thresholds."""

    kind: Literal["retinaface"] = "retinaface"
    weights: Path
    """A safetensors file, or a torch state dict, of which only tensors are loaded."""
    max_overlap: Share = 0.4
    """Of two boxes with a higher intersection over union, the one of higher score is kept."""

    def build(self) -> "RetinaFaceDetector":
        """Load the detector; raises `WeightsError` if the weights are not those of RetinaFace."""
        file, network = self.weights_file(), RetinaFace()
        try:
            network.load_state_dict(_state_dict(file.path))
        except (
            SafetensorError,
            pickle.UnpicklingError,
            RuntimeError,
            TypeError,
            AttributeError,
            EOFError,
            OSError,
        ) as error:
            raise WeightsError(
                f"{file.path} holds no weights of RetinaFace with mobilenet0.25 "
                f"({one_line(error)}); give a state dict of biubug6/Pytorch_Retinaface"
            ) from None
        file.check_unchanged()
        return RetinaFaceDetector(network, self)

    def weights_file(self) -> WeightsFile:
        """The file of weights; raises `WeightsError` if there is none."""
        if not self.weights.is_file():
            raise WeightsError(f"there is no file of weights {self.weights}; correct `weights`")
        return WeightsFile.of(self.weights)


def _state_dict(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    weights = loaded.get("state_dict", loaded)
    return {name.removeprefix(PARALLEL_PREFIX): tensor for name, tensor in weights.items()}


class RetinaFaceDetector(ConvolutionalDetector[LevelOutput]):
    """A loaded RetinaFace."""

    mean_bgr = (104.0, 117.0, 123.0)

    def __init__(self, network: RetinaFace, config: RetinaFaceConfig) -> None:
        super().__init__(network, config)
        fuse_batch_norms(self.network)

    def decode(
        self, level: LevelOutput
    ) -> tuple[Float[Tensor, "N 4"], Float[Tensor, "N 5 2"], Float[Tensor, "N"]]:
        """Boxes, landmarks and scores of the priors above the threshold, in pixels."""
        sides_px = torch.tensor(PRIOR_SIDES_PX[STRIDES.index(level.stride_px)], dtype=torch.float32)
        score = level.logits[0].softmax(1)[:, 1]
        [priors] = (score >= self.config.min_score).nonzero(as_tuple=True)
        cells, side = priors // len(sides_px), sides_px[priors % len(sides_px)][:, None]
        cell_xy = torch.stack([cells % level.n_columns, cells // level.n_columns], dim=1)
        prior_xy = (cell_xy + 0.5) * level.stride_px
        box = level.box[0, priors]
        centre = prior_xy + OFFSET_SCALE * side * box[:, :2]
        size = side * (SIZE_SCALE * box[:, 2:]).exp()
        points = level.landmarks[0, priors].unflatten(1, (len(LANDMARKS), 2))
        landmarks = prior_xy[:, None] + OFFSET_SCALE * side[..., None] * points
        return torch.cat([centre - size / 2, size], dim=1), landmarks, score[priors]
