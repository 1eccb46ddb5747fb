"""The CLIP encoder: one embedding per video frame, of its face crop or of the whole frame."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import Field
from torch import Tensor, nn

from features.canonical_json import JsonObject
from features.clip import Source, Track
from features.encoders.base import DTYPES, EncoderConfig, to_stored, tracks_of
from features.encoders.clip_model import ResolvedClip, load, resolve_clip, settings_of
from features.encoders.faces import FacesConfig, aligned_crops
from features.errors import MediaError
from features.media.crops import crop_files
from features.media.decoder import Decoder
from features.media.display import Image
from features.media.limits import check_frames
from features.media.sampling import EVERY_FRAME, Sampling
from features.spec import FeatureSpec, Modality
from features.timeline import MAX_LENGTH_MISMATCH, FrameTimes, constant_frame_times, extend_times

EPOCH = 1  # of the code below, see FeatureSpec.epoch


class ClipConfig(EncoderConfig):
    """A CLIP model with its weights."""

    kind: Literal["clip"] = "clip"
    modality: ClassVar[Modality] = "visual"
    model: str = "ViT-B-16-quickgelu"
    """The name of a model of open_clip, or the path of a model config (`.json`)."""
    pretrained: str = "openai"
    """A tag of open_clip for the model, or the path of a file of weights."""
    sampling: Sampling = EVERY_FRAME
    """Which frames are encoded; the others are rows that are not valid."""
    faces: FacesConfig | None = None
    """How faces are found in videos without crops; null encodes whole frames."""
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """The sha256 of the file of weights; required if it is not a safetensors file."""

    def spec(self) -> FeatureSpec:
        """Everything that decides the values; hashes the weights, builds no network."""
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
                # left out if there are none, so that sets made before faces were found stay valid
                **({"faces": self._faces_spec(self.faces)} if self.faces else {}),
            },
            sampling={"rows": self.sampling.as_spec(), "time": "presentation"},
            precision=self.precision,
            epoch=EPOCH,
        )

    @staticmethod
    def _faces_spec(faces: FacesConfig) -> JsonObject:
        return {"set": faces.spec().name, "alignment": faces.alignment.as_spec()}

    def resolve(self) -> ResolvedClip:
        """The model and its files; see `resolve_clip` for the errors."""
        return resolve_clip(self.model, self.pretrained, self.weights_sha256)

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
    import open_clip

    resolved = config.resolve()
    tokenizer = open_clip.get_tokenizer(resolved.name)
    return LoadedClip(load(resolved), tokenizer, resolved.weights.sha256)


class ClipEncoder:
    """The visual tower of a CLIP, with open_clip's preprocessing."""

    modality: Modality = "visual"
    rate_hz: int | None = None
    cpu_batch = 32
    gpu_batch = 512

    def __init__(self, config: ClipConfig, device: torch.device) -> None:
        resolved = config.resolve()
        self.spec = config.spec_of(resolved)
        self.device = device
        self.dtype = DTYPES[config.precision]
        self.sampling = config.sampling
        self.faces = config.faces
        self.preprocessing = resolved.preprocessing
        self.width: int = resolved.model_config["embed_dim"]
        self.size: tuple[int, int] = tuple(settings_of(resolved.preprocessing)["size"])
        model = load(resolved)
        n_convolutions = sum(isinstance(part, nn.Conv2d) for part in model.visual.modules())
        # channels_last is faster for a ResNet, not for a ViT, whose one convolution cuts patches
        self.layout = torch.channels_last if n_convolutions > 1 else torch.contiguous_format
        self.model = model.to(device=device, dtype=self.dtype, memory_format=self.layout)
        self.mean = torch.tensor(resolved.preprocessing.mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(resolved.preprocessing.std, device=device).view(1, 3, 1, 1)

    def blank(self, n_items: int) -> UInt8[Tensor, "N 3 H W"]:
        """Black images."""
        return torch.zeros((n_items, 3, *self.size), dtype=torch.uint8)

    def read(
        self, source: Source, decoder: Decoder
    ) -> Generator[UInt8[Tensor, "N 3 H W"] | FrameTimes, None, None]:
        """Yield resized images; the last item has the row of each, and the time of every row."""
        if source.frames is not None:
            yield from self._read_crops(source, source.frames, decoder)
        elif source.video is not None and self.faces is not None:
            yield from self._read_faces(source, self.faces, decoder)
        elif source.video is not None:
            frames = decoder.frames(source.video, source.fps, self.sampling, tracks_of(source))
            yield from self._preprocessed(frames)
        else:
            raise MediaError(
                f"clip {source.clip_id!r} has neither `video` nor `frames`; add one to its line",
                "missing",
            )

    def _read_crops(
        self, source: Source, folder: Path, decoder: Decoder
    ) -> Generator[UInt8[Tensor, "N 3 H W"] | FrameTimes, None, None]:
        crops = crop_files(folder)
        if not crops:
            raise MediaError(
                f"{folder} holds no crop; extract faces first, or set `frames` null", "crops"
            )
        check_frames(folder, max(crops), decoder.limits)
        times = _crop_times(source, folder, decoder, last_crop=max(crops))
        rows = self.sampling.select(enumerate(times.time_s.tolist()))
        sampled = {row: crops[row + 1] for row in rows if row + 1 in crops}
        yield from self._preprocessed(decoder.crops(list(sampled.values())))
        yield replace(times, rows=np.array(list(sampled), dtype=np.int64))

    def _read_faces(
        self, source: Source, config: FacesConfig, decoder: Decoder
    ) -> Generator[UInt8[Tensor, "N 3 H W"] | FrameTimes, None, None]:
        """Crop the face of the clip's person out of each sampled frame that shows it."""
        encoded: list[int] = []
        items = aligned_crops(source, config, decoder, self.sampling)
        with closing(items):
            for item in items:
                if isinstance(item, FrameTimes):
                    yield replace(item, rows=np.array(encoded, dtype=np.int64))
                else:
                    rows, crops = item
                    encoded += rows
                    yield self.preprocess(crops)

    def _preprocessed(
        self, items: Generator[list[Image] | FrameTimes, None, None]
    ) -> Generator[UInt8[Tensor, "N 3 H W"] | FrameTimes, None, None]:
        with closing(items):
            for item in items:
                yield self.preprocess(item) if isinstance(item, list) else item

    def preprocess(self, images: Sequence[Image]) -> UInt8[Tensor, "N 3 H W"]:
        """Images resized and cropped to the model's input size; within 2 grey levels of PIL.

        They are resized one by one, as their sizes may differ.
        """
        from torchvision.transforms import InterpolationMode  # takes seconds
        from torchvision.transforms.v2 import functional as image_functional

        resized = torch.empty((len(images), 3, *self.size), dtype=torch.uint8)
        squash = self.preprocessing.resize_mode == "squash"
        size = list(self.size) if squash else [min(self.size)]
        interpolation = InterpolationMode(self.preprocessing.interpolation)
        for target, image in zip(resized.numpy(), images, strict=True):
            small = image_functional.resize(
                torch.from_numpy(image).permute(2, 0, 1)[None], size, interpolation, antialias=True
            )
            if not squash:
                small = image_functional.center_crop(small, list(self.size))
            np.copyto(target, small[0].numpy())  # twice as fast as torch's copy to channels first
        return resized

    @torch.inference_mode()
    def encode(self, items: UInt8[Tensor, "N 3 H W"]) -> Tensor:
        """Embeddings (N, D) in the joint space, not normalised; on the device."""
        images = items.to(self.device, non_blocking=True).float()
        images.div_(255).sub_(self.mean).div_(self.std)  # in place: memory bandwidth is the limit
        images = images.to(self.dtype, memory_format=self.layout)
        return self.model.encode_image(images, normalize=False)

    def assemble(self, outputs: Iterable[Tensor], layout: FrameTimes) -> tuple[Track, str | None]:
        """One row per frame of the video; 0 and not valid if the frame was not encoded."""
        n_rows, first = len(layout.time_s), 0
        values = np.zeros((n_rows, self.width), dtype=np.float16)
        valid = np.zeros(n_rows, dtype=bool)
        for output in outputs:
            rows = layout.rows[first : first + len(output)]
            values[rows] = to_stored(output)
            first += len(output)
        valid[layout.rows] = True
        return Track(values, layout.time_s, valid), layout.note


def _crop_times(source: Source, folder: Path, decoder: Decoder, *, last_crop: int) -> FrameTimes:
    """The time of every row of a clip with crops: its video's frames, and at most three more."""
    if source.video is None:
        if source.fps is None:
            raise MediaError(
                f"clip {source.clip_id!r} has crops but no `video` to time them and no `fps`; "
                "add one of them to its line",
                "no-clock",
            )
        return constant_frame_times(last_crop, source.fps, "no video")
    times = decoder.frame_times(source.video, source.fps, tracks_of(source))
    n_extra = last_crop - len(times.time_s)
    if n_extra > MAX_LENGTH_MISMATCH:
        raise MediaError(
            f"{folder} has crop {last_crop}, but {source.video} has {len(times.time_s)} frames; at "
            f"most {MAX_LENGTH_MISMATCH} more are accepted: are these the crops of this video? "
            "correct `frames` or `video` in the manifest, or remove the crops that are too many",
            "crops",
        )
    return FrameTimes(extend_times(times.time_s, max(0, n_extra)), times.rows, times.note)
