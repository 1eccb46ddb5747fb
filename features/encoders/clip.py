"""The CLIP encoder: one embedding per video frame, of its face crop or of the whole frame."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from jaxtyping import UInt8
from pydantic import Field
from torch import Tensor, nn

from features.config import Config
from features.encoders.clip_model import ResolvedClip, load, resolve_clip, settings_of
from features.encoders.visual import Normalise, VisualConfig, VisualEncoder, resize
from features.errors import WeightsError
from features.media.display import Image
from features.spec import FeatureSpec

EPOCH = 1  # of the code below, see FeatureSpec.epoch


class ClipPreprocessing(Config):
    """Preprocessing for weights that open_clip does not know; what is null is as published."""

    mean: tuple[float, float, float] | None = None
    """What is subtracted of red, green and blue in [0, 1]."""
    std: tuple[float, float, float] | None = None
    """What they are then divided by."""
    interpolation: Literal["bicubic", "bilinear"] | None = None
    """How images are resized."""
    resize_mode: Literal["shortest", "squash"] | None = None
    """Whether proportions are kept and the middle is cut out, or the picture is squeezed."""


class ClipConfig(VisualConfig):
    """A CLIP model with its weights."""

    kind: Literal["clip"] = "clip"
    model: str = "ViT-B-16-quickgelu"
    """The name of a model of open_clip, or the path of a model config (`.json`)."""
    pretrained: str = "openai"
    """A tag of open_clip for the model, or the path of a file of weights."""
    preprocessing: ClipPreprocessing | None = None
    """How images are brought to the model; null: as for the published weights."""
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """The sha256 of the file of weights; required if it is not a safetensors file."""

    def spec(self) -> FeatureSpec:
        """Everything that determines the values; hashes the weights, builds no network."""
        return self.spec_of(self.resolve())

    def spec_of(self, resolved: ResolvedClip) -> FeatureSpec:
        """The spec with a model that is resolved."""
        return FeatureSpec(
            kind=self.kind,
            model={
                **resolved.model_config,
                "name": resolved.name,
                "activation": "quick_gelu" if resolved.model_config.get("quick_gelu") else "gelu",
            },
            weights_sha256=resolved.weights.sha256,
            preprocessing={
                **settings_of(resolved.preprocessing),
                "antialias": True,
                **self.faces_spec(),
            },
            sampling=self.sampling_spec(),
            precision=self.precision,
            epoch=EPOCH,
        )

    def resolve(self) -> ResolvedClip:
        """The model and its files; see `resolve_clip` for the errors."""
        given = self.preprocessing and self.preprocessing.model_dump(exclude_none=True)
        return resolve_clip(self.model, self.pretrained, self.weights_sha256, given)

    def build(self, device: torch.device) -> "ClipEncoder":
        """Load the encoder; `WeightsError` if the weights are not those of the model."""
        return ClipEncoder(self, device)


@dataclass(frozen=True, slots=True)
class LoadedClip:
    """Both towers of a CLIP, frozen, in float32, with their tokenizer."""

    model: Any  # open_clip's model classes share no base with these methods
    tokenizer: Callable[[list[str]], Tensor]
    weights_sha256: str


def load_clip(config: ClipConfig) -> LoadedClip:
    """The whole model, for the text prompts of stage two."""
    resolved = config.resolve()
    return LoadedClip(load(resolved), _tokenizer(resolved.name), resolved.weights.sha256)


@cache
def _tokenizer(model: str) -> Callable[[list[str]], Tensor]:
    """open_clip's tokenizer of a model, which takes a fifth of a second to read its vocabulary."""
    import open_clip

    try:
        return open_clip.get_tokenizer(model)
    except Exception as error:  # the hub's client raises many types
        text = (open_clip.get_model_config(model) or {}).get("text_cfg", {})
        source = text.get("hf_tokenizer_name", "open_clip")
        raise WeightsError(
            f"the tokenizer of {model!r} ({source}) is not on this machine and cannot be fetched "
            f"({' '.join(str(error).split())[:200]}), which region prompts need; fetch it once "
            "with a network and HF_HUB_OFFLINE unset, or train with head.prompts=null"
        ) from error


class ClipEncoder(VisualEncoder):
    """The visual tower of a CLIP, with open_clip's preprocessing."""

    def __init__(self, config: ClipConfig, device: torch.device) -> None:
        resolved = config.resolve()
        self.preprocessing = resolved.preprocessing
        size: tuple[int, int] = tuple(settings_of(resolved.preprocessing)["size"])
        super().__init__(config, config.spec_of(resolved), size, device)
        self.width = resolved.model_config["embed_dim"]
        model = load(resolved)
        n_convolutions = sum(isinstance(part, nn.Conv2d) for part in model.visual.modules())
        # channels_last is faster for a ResNet, not for a ViT, whose one convolution cuts patches
        self.layout = torch.channels_last if n_convolutions > 1 else torch.contiguous_format
        self.model = model.to(device=device, dtype=self.dtype, memory_format=self.layout)
        self.normalise = Normalise(resolved.preprocessing.mean, resolved.preprocessing.std, device)

    def preprocess(self, images: Sequence[Image]) -> UInt8[Tensor, "N 3 H W"]:
        """Images resized and cropped to the model's input size; within 2 grey levels of PIL."""
        squash = self.preprocessing.resize_mode == "squash"
        sides = self.size if squash else [min(self.size)]
        return resize(images, sides, self.size, self.preprocessing.interpolation)

    @torch.inference_mode()
    def encode(self, items: UInt8[Tensor, "N 3 H W"]) -> Tensor:
        """Embeddings (N, D) in the joint space, not normalised; on the device."""
        images = self.normalise(items).to(self.dtype, memory_format=self.layout)
        return self.model.encode_image(images, normalize=False)
