"""The network of YuNet: a small backbone, a feature pyramid, and a head at three strides.

W. Wu, H. Peng, S. Yu: YuNet: A Tiny Millisecond-level Face Detector (2023). Modules are named as in
the weights; batch norms are folded into the convolutions.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

STRIDES = (8, 16, 32)
N_LANDMARKS = 5
WIDTH = 64
OUTPUTS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 2 * N_LANDMARKS}
"""The channels of each output of the head."""
STAGES = ((16, 16, 32), (32, 32, 64), (64, 64, 64), (64, 64, 64), (64, 64, 64))
"""Channels of the backbone's stages after the first: input, middle, output."""
POOLED = (0, 2, 3, 4)
"""The stages of the backbone that are followed by a 2x2 max pooling."""


@dataclass(frozen=True, slots=True)
class LevelOutput:
    """The outputs at one stride, for each image and each cell in reading order."""

    stride_px: int
    n_columns: int
    score: Float[Tensor, "B N"]
    """The geometric mean of the two probabilities: of a face, and of a centre of one."""
    box: Float[Tensor, "B N 4"]
    """Offset of the centre from the cell, and the logarithm of width and height, in strides."""
    landmarks: Float[Tensor, "B N 10"]
    """Offset of each landmark from the cell, x before y, in strides."""


class SeparableConv(nn.Module):
    """A 1x1 convolution and a 3x3 convolution by channel; ReLU except at the end of the head."""

    def __init__(self, n_in: int, n_out: int, *, relu: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 1)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, groups=n_out)
        self.relu = relu

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        """The output of both convolutions."""
        x = self.conv2(self.conv1(x))
        return F.relu_(x) if self.relu else x


class FirstStage(nn.Module):
    """A 3x3 convolution with stride 2, and a separable one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.conv2 = SeparableConv(16, 16)

    def forward(self, x: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 16 H2 W2"]:
        """Features at half the size."""
        return self.conv2(F.relu_(self.conv1(x)))


class Stage(nn.Module):
    """Two separable convolutions."""

    def __init__(self, n_in: int, n_middle: int, n_out: int) -> None:
        super().__init__()
        self.conv1 = SeparableConv(n_in, n_middle)
        self.conv2 = SeparableConv(n_middle, n_out)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H W"]:
        """Features of the same size."""
        return self.conv2(self.conv1(x))


class YuNet(nn.Module):
    """The network; its input is BGR from 0 to 255, with sides that are multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        stages = {f"model{k}": Stage(*channels) for k, channels in enumerate(STAGES, 1)}
        self.backbone = nn.ModuleDict({"model0": FirstStage(), **stages})
        laterals = nn.ModuleList(SeparableConv(WIDTH, WIDTH) for _ in STRIDES)
        self.neck = nn.ModuleDict({"lateral_convs": laterals})
        self.bbox_head = nn.ModuleDict(
            {
                f"multi_level_{name}": nn.ModuleList(
                    SeparableConv(WIDTH, n_channels, relu=False) for _ in STRIDES
                )
                for name, n_channels in OUTPUTS.items()
            }
        )

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[LevelOutput]:
        """The outputs at each stride."""
        levels = self._pyramid(images)
        return [self._level(index, level) for index, level in enumerate(levels)]

    def _pyramid(self, x: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """Features at strides 8, 16 and 32, coarse ones added to finer ones."""
        features: list[Tensor] = []
        for index, stage in enumerate(self.backbone.values()):
            x = stage(x)
            features.append(x)
            if index in POOLED:
                x = F.max_pool2d(x, 2)
        *finer, x = features[-len(STRIDES) :]
        laterals = list(self.neck["lateral_convs"])  # pyright: ignore[reportArgumentType]
        levels = [laterals[-1](x)]
        for lateral, feature in zip(laterals[-2::-1], finer[::-1], strict=True):
            coarse = F.interpolate(levels[0], scale_factor=2.0, mode="nearest")
            levels.insert(0, lateral(feature + coarse))
        return levels

    def _level(self, index: int, level: Float[Tensor, "B C H W"]) -> LevelOutput:
        outputs = {
            name: self.bbox_head[f"multi_level_{name}"][index](level)  # pyright: ignore[reportIndexIssue]
            .flatten(2)
            .transpose(1, 2)
            for name in OUTPUTS
        }
        score = torch.sqrt(outputs["cls"].sigmoid() * outputs["obj"].sigmoid())[..., 0]
        return LevelOutput(STRIDES[index], level.shape[-1], score, outputs["bbox"], outputs["kps"])
