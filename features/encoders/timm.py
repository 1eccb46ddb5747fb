"""The encoder of any model of timm: one pooled embedding per frame, with weights of a file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from pydantic import Field
from torch import Tensor

from features.encoders.timm_model import ResolvedTimm, load, resolve_timm
from features.encoders.visual import Normalise, VisualConfig, VisualEncoder, resize
from features.media.display import Image
from features.spec import FeatureSpec

EPOCH = 1  # of the code below, see FeatureSpec.epoch


class TimmConfig(VisualConfig):
    """A model of timm with a local file of weights."""

    kind: Literal["timm"] = "timm"
    model: str
    """The name of a model in timm, with or without its tag: `vit_small_patch14_dinov2.lvd142m`."""
    weights: Path
    """A state dict of the model: a .safetensors file, or a checkpoint of torch (.pth, .pt)."""
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """The sha256 of the file of weights; required if it is not a safetensors file."""

    def spec(self) -> FeatureSpec:
        """Everything that determines the values; hashes the weights, builds no network."""
        return self.spec_of(self.resolve())

    def spec_of(self, resolved: ResolvedTimm) -> FeatureSpec:
        """The spec with a model that is resolved."""
        return FeatureSpec(
            kind=self.kind,
            model={"name": resolved.name, "output": "pooled"},
            weights_sha256=resolved.weights.sha256,
            preprocessing={**resolved.preprocessing, "antialias": True, **self.faces_spec()},
            sampling=self.sampling_spec(),
            precision=self.precision,
            epoch=EPOCH,
        )

    def resolve(self) -> ResolvedTimm:
        """The model and its files; see `resolve_timm` for the errors."""
        return resolve_timm(self.model, self.weights, self.weights_sha256)

    def build(self, device: torch.device) -> "TimmEncoder":
        """Load the encoder; `WeightsError` if the weights are not those of the model."""
        return TimmEncoder(self, device)


class TimmEncoder(VisualEncoder):
    """A model of timm without its classifier, with the preprocessing of its data config."""

    def __init__(self, config: TimmConfig, device: torch.device) -> None:
        resolved = config.resolve()
        settings = resolved.preprocessing
        size: tuple[int, int] = tuple(settings["size"])
        super().__init__(config, config.spec_of(resolved), size, device)
        model = load(resolved)
        sides = [math.floor(side / settings["crop_pct"]) for side in size]
        self.sides = sides if settings["crop_mode"] == "squash" else sides[:1]
        self.interpolation: str = settings["interpolation"]
        with torch.inference_mode():
            self.width = model(torch.zeros(1, 3, *size)).shape[1]
        self.model = model.to(device=device, dtype=self.dtype)
        self.normalise = Normalise(settings["mean"], settings["std"], device)

    def preprocess(self, images: Sequence[Image]) -> UInt8[Tensor, "N 3 H W"]:
        """Images as timm's transform for evaluation makes them; within 2 grey levels of PIL."""
        return resize(images, self.sides, self.size, self.interpolation)

    @torch.inference_mode()
    def encode(self, items: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N D"]:
        """Pooled features on the device."""
        return self.model(self.normalise(items).to(self.dtype))
