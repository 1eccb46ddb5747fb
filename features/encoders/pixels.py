"""Mean and spread of the pixels: what the pictures say without any network."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from features.encoders.visual import VisualConfig, VisualEncoder, resize
from features.encoders.weights import NO_WEIGHTS
from features.media.display import Image
from features.spec import FeatureSpec

CELL_PX = 16  # the side of a cell after resizing
EPOCH = 1  # of the code below, see FeatureSpec.epoch


class PixelsConfig(VisualConfig):
    """Mean and standard deviation of the pixels, per colour channel and cell of a coarse grid."""

    kind: Literal["pixels"] = "pixels"
    grid: int = Field(default=4, ge=1, le=16)
    """Cells along each side of the picture."""

    def spec(self) -> FeatureSpec:
        """Everything that determines the values."""
        return FeatureSpec(
            kind=self.kind,
            model={"name": "mean and spread", "grid": self.grid},
            weights_sha256=NO_WEIGHTS,
            preprocessing={
                "cell_px": CELL_PX,
                "interpolation": "bilinear",
                "antialias": True,
                **self.faces_spec(),
            },
            sampling=self.sampling_spec(),
            precision=self.precision,
            epoch=EPOCH,
        )

    def build(self, device: torch.device) -> "PixelsEncoder":
        """The encoder on a device."""
        return PixelsEncoder(self, device)


class PixelsEncoder(VisualEncoder):
    """Mean and standard deviation in [0, 1] of red, green and blue in each cell."""

    cpu_batch = 256
    gpu_batch = 4096

    def __init__(self, config: PixelsConfig, device: torch.device) -> None:
        side_px = config.grid * CELL_PX
        super().__init__(config, config.spec(), (side_px, side_px), device)
        self.grid = config.grid
        self.width = 2 * 3 * config.grid**2

    def preprocess(self, images: Sequence[Image]) -> UInt8[Tensor, "N 3 H W"]:
        """Images resized to a square, whatever their proportions."""
        return resize(images, self.size, self.size, "bilinear")

    @torch.inference_mode()
    def encode(self, items: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N D"]:
        """The means of all cells, then the deviations; each by channel, row and column."""
        pixels = items.to(self.device, self.dtype) / 255
        cells = pixels.unflatten(3, (self.grid, CELL_PX)).unflatten(2, (self.grid, CELL_PX))
        std, mean = torch.std_mean(cells, dim=(3, 5), correction=0)
        return torch.cat([mean.flatten(1), std.flatten(1)], dim=1)
