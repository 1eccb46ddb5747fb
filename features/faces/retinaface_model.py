"""The network of RetinaFace with a MobileNet of a quarter of its width.

J. Deng et al.: RetinaFace (CVPR 2020). Modules are named as in the weights of the widely used
implementation in PyTorch (biubug6/Pytorch_Retinaface, MIT), which its files have for keys.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

STRIDES = (8, 16, 32)
PRIOR_SIDES_PX = ((16, 32), (64, 128), (256, 512))
"""The sides of the square priors of each cell, by stride."""
WIDTH = 64
SLOPE = 0.1  # of the leaky ReLU
OUTPUTS = {"ClassHead": 2, "BboxHead": 4, "LandmarkHead": 10}
"""Numbers of each prior, by head."""
STAGES = {
    "stage1": ((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)),
    "stage2": ((64, 128, 2), *((128, 128, 1),) * 5),
    "stage3": ((128, 256, 2), (256, 256, 1)),
}
"""Input, output and stride of the separable convolutions; a plain one precedes the first."""


@dataclass(frozen=True, slots=True)
class LevelOutput:
    """The outputs at one stride for each image; priors in reading order, two for each cell."""

    stride_px: int
    n_columns: int
    logits: Float[Tensor, "B N 2"]
    """Of no face, and of a face."""
    box: Float[Tensor, "B N 4"]
    landmarks: Float[Tensor, "B N 10"]


def conv_bn(
    n_in: int, n_out: int, side: int = 3, stride: int = 1, *, groups: int = 1, relu: bool = True
) -> list[nn.Module]:
    """A convolution, a batch norm, and a leaky ReLU."""
    padding = side // 2
    convolution = nn.Conv2d(n_in, n_out, side, stride, padding, groups=groups, bias=False)
    activation = [nn.LeakyReLU(SLOPE, inplace=True)] if relu else []
    return [convolution, nn.BatchNorm2d(n_out), *activation]


def separable(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    """A 3x3 convolution by channel and a 1x1 convolution."""
    by_channel = conv_bn(n_in, n_in, stride=stride, groups=n_in)
    return nn.Sequential(*by_channel, *conv_bn(n_in, n_out, side=1))


class Pyramid(nn.Module):
    """Features of one width at each stride, coarse ones added to finer ones."""

    def __init__(self) -> None:
        super().__init__()
        self.output1 = nn.Sequential(*conv_bn(64, WIDTH, side=1))
        self.output2 = nn.Sequential(*conv_bn(128, WIDTH, side=1))
        self.output3 = nn.Sequential(*conv_bn(256, WIDTH, side=1))
        self.merge1 = nn.Sequential(*conv_bn(WIDTH, WIDTH))
        self.merge2 = nn.Sequential(*conv_bn(WIDTH, WIDTH))

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> list[Tensor]:
        """The features at strides 8, 16 and 32."""
        third = self.output3(coarse)
        second = self.merge2(self.output2(middle) + F.interpolate(third, scale_factor=2.0))
        first = self.merge1(self.output1(fine) + F.interpolate(second, scale_factor=2.0))
        return [first, second, third]


class Context(nn.Module):
    """Convolutions that see 3, 5 and 7 pixels around, side by side (SSH; Najibi et al., 2017)."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter = WIDTH // 2, WIDTH // 4
        self.conv3X3 = nn.Sequential(*conv_bn(WIDTH, half, relu=False))
        self.conv5X5_1 = nn.Sequential(*conv_bn(WIDTH, quarter))
        self.conv5X5_2 = nn.Sequential(*conv_bn(quarter, quarter, relu=False))
        self.conv7X7_2 = nn.Sequential(*conv_bn(quarter, quarter))
        self.conv7x7_3 = nn.Sequential(*conv_bn(quarter, quarter, relu=False))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Features of the same size and width."""
        wider = self.conv5X5_1(x)
        widest = self.conv7x7_3(self.conv7X7_2(wider))
        return F.relu_(torch.cat([self.conv3X3(x), self.conv5X5_2(wider), widest], dim=1))


class RetinaFace(nn.Module):
    """The network; its input is BGR less the mean colour, with sides that are multiples of 32."""

    def __init__(self) -> None:
        super().__init__()
        stages = {
            name: nn.Sequential(*(separable(*channels) for channels in blocks))
            for name, blocks in STAGES.items()
        }
        stages["stage1"].insert(0, nn.Sequential(*conv_bn(3, 8, stride=2)))
        self.body = nn.ModuleDict(stages)
        self.fpn = Pyramid()
        self.ssh1, self.ssh2, self.ssh3 = Context(), Context(), Context()
        n_priors = len(PRIOR_SIDES_PX[0])
        for name, n_outputs in OUTPUTS.items():
            heads = (
                nn.ModuleDict({"conv1x1": nn.Conv2d(WIDTH, n_priors * n_outputs, 1)})
                for _ in STRIDES
            )
            self.add_module(name, nn.ModuleList(heads))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[LevelOutput]:
        """The outputs at each stride."""
        features: list[Tensor] = []
        x = images
        for stage in self.body.values():
            x = stage(x)
            features.append(x)
        contexts = (self.ssh1, self.ssh2, self.ssh3)
        levels = [each(x) for each, x in zip(contexts, self.fpn(*features), strict=True)]
        return [self._level(index, level) for index, level in enumerate(levels)]

    def _level(self, index: int, level: Float[Tensor, "B C H W"]) -> LevelOutput:
        outputs = [
            self.get_submodule(f"{name}.{index}.conv1x1")(level)
            .permute(0, 2, 3, 1)
            .reshape(len(level), -1, n_outputs)
            for name, n_outputs in OUTPUTS.items()
        ]
        return LevelOutput(STRIDES[index], level.shape[-1], *outputs)


def fuse_batch_norms(network: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, which saves its time."""
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for (name, convolution), (next_name, norm) in pairwise(list(module.named_children())):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module.add_module(name, fuse_conv_bn_eval(convolution.eval(), norm.eval()))
                module.add_module(next_name, nn.Identity())
