"""CLIP embeddings of face crops, or of whole frames, one per video frame, through open_clip."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import open_clip
import torch
from jaxtyping import UInt8
from pydantic import Field
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as image_functional

from features.clip import Source, Track
from features.encoders.base import DTYPES, EncoderConfig, to_stored
from features.encoders.clip_model import (
    ResolvedClip,
    digest_of_weights,
    load,
    resolve_clip,
    settings_of,
)
from features.errors import MediaError
from features.media.crops import crop_files
from features.media.decoder import Decoder
from features.media.limits import check_frames
from features.media.sampling import EVERY_FRAME, Sampling
from features.media.worker.requests import Image
from features.spec import FeatureSpec, Modality
from features.timeline import MAX_LENGTH_MISMATCH, FrameTimes, constant_frame_times, extend_times

EPOCH = 1  # of the code below, see FeatureSpec.epoch

ResultT = TypeVar("ResultT")


class ClipConfig(EncoderConfig):
    """A CLIP model with its weights."""

    kind: Literal["clip"] = "clip"
    modality: ClassVar[Modality] = "visual"
    model: str = "ViT-B-16-quickgelu"
    """A name that open_clip knows, or the path of a model config (`.json`)."""
    pretrained: str = "openai"
    """A tag that open_clip knows for the model, or the path of a file of weights."""
    sampling: Sampling = EVERY_FRAME
    """Which frames are looked at; the others are rows that are not valid."""
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """What the file of weights must hash to; wanted where it is no safetensors file."""

    def spec(self) -> FeatureSpec:
        """Everything that decides the numbers; hashes the weights, builds no network."""
        found, digest = self.found()
        return FeatureSpec(
            kind=self.kind,
            model={
                **found.model_config,
                "name": found.name,
                "activation": "quick_gelu" if found.model_config.get("quick_gelu") else "gelu",
            },
            weights_sha256=digest,
            preprocessing={**settings_of(found.preprocessing), "antialias": True},
            sampling={"rows": self.sampling.as_spec(), "time": "presentation"},
            precision=self.precision,
            epoch=EPOCH,
        )

    def found(self) -> tuple[ResolvedClip, str]:
        """The model looked up, and the sha256 of its weights, which is the one that is wanted."""
        found = resolve_clip(self.model, self.pretrained)
        return found, digest_of_weights(found.weights, self.weights_sha256)

    def build(self, device: torch.device) -> "ClipEncoder":
        """Load the encoder; `WeightsError` where the weights are not those of the model."""
        return ClipEncoder(self, device)


@dataclass(frozen=True, slots=True)
class LoadedClip:
    """Both towers of a CLIP, frozen, in float32, with their tokenizer."""

    model: Any  # open_clip's classes share no base but Module, which hides what they have
    tokenizer: Callable[[list[str]], Tensor]
    weights_sha256: str


def load_clip(config: ClipConfig) -> LoadedClip:
    """The whole model, as the text side of stage two needs it."""
    found, digest = config.found()
    tokenizer = open_clip.get_tokenizer(found.name)
    return LoadedClip(load(found), tokenizer, digest)


class ClipEncoder:
    """The visual tower of a CLIP, behind open_clip's own preprocessing."""

    modality: Modality = "visual"
    rate_hz = None
    cpu_batch = 32
    gpu_batch = 512

    def __init__(self, config: ClipConfig, device: torch.device) -> None:
        found, _ = config.found()
        self.spec = config.spec()
        self.device = device
        self.dtype = DTYPES[config.precision]
        self.sampling = config.sampling
        self.preprocessing = found.preprocessing
        self.width: int = found.model_config["embed_dim"]
        self.size: tuple[int, int] = tuple(settings_of(found.preprocessing)["size"])
        model = load(found)
        n_convolutions = sum(isinstance(part, nn.Conv2d) for part in model.visual.modules())
        # a tower of convolutions is faster so; in a transformer the one that cuts patches is not
        self.layout = torch.channels_last if n_convolutions > 1 else torch.contiguous_format
        self.model = model.to(device=device, dtype=self.dtype, memory_format=self.layout)
        self.mean = torch.tensor(found.preprocessing.mean, device=device).view(1, 3, 1, 1)
        self.std = torch.tensor(found.preprocessing.std, device=device).view(1, 3, 1, 1)

    def blank(self, n_items: int) -> UInt8[Tensor, "N 3 H W"]:
        """Black pictures."""
        return torch.zeros((n_items, 3, *self.size), dtype=torch.uint8)

    def read(
        self, source: Source, decoder: Decoder
    ) -> Generator[UInt8[Tensor, "N 3 H W"], None, FrameTimes]:
        """Yield resized pictures; return the row of each and the time of every row."""
        if source.frames is not None:
            return (yield from self._read_crops(source, source.frames, decoder))
        if source.video is None:
            raise MediaError(
                f"clip {source.clip_id!r} has neither `video` nor `frames`; add one to its line",
                "missing",
            )
        pictures = decoder.pictures(source.video, source.fps, self.sampling)
        return (yield from self._preprocessed(pictures))

    def _read_crops(
        self, source: Source, folder: Path, decoder: Decoder
    ) -> Generator[UInt8[Tensor, "N 3 H W"], None, FrameTimes]:
        crops = crop_files(folder)
        if not crops:
            raise MediaError(
                f"{folder} holds no crop; extract faces first, or set `frames` null", "crops"
            )
        check_frames(folder, max(crops), decoder.limits)
        times = _crop_clock(source, folder, decoder, last_crop=max(crops))
        rows = self.sampling.taken(enumerate(times.time_s.tolist()))
        taken = {row: crops[row + 1] for row in rows if row + 1 in crops}
        yield from self._preprocessed(decoder.crops(list(taken.values())))
        return replace(times, rows=np.array(list(taken), dtype=np.int64))

    def _preprocessed(
        self, pieces: Generator[list[Image], None, ResultT]
    ) -> Generator[UInt8[Tensor, "N 3 H W"], None, ResultT]:
        """Each piece resized; what the generator returns."""
        with closing(pieces):
            while True:
                try:
                    pictures = next(pieces)
                except StopIteration as end:
                    return end.value
                yield self.preprocess(pictures)

    def preprocess(
        self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    ) -> UInt8[Tensor, "N 3 H W"]:
        """Pictures resized and cropped as the model wants them; within 2 grey levels of PIL.

        One by one, from where they lie: no copy of all of them is made in between.
        """
        resized = torch.empty((len(pictures), 3, *self.size), dtype=torch.uint8)
        for place, picture in zip(resized.numpy(), pictures, strict=True):
            small = self._resize(torch.from_numpy(picture).permute(2, 0, 1)[None])[0]
            np.copyto(place, small.numpy())  # colours apart: numpy does it in half of torch's time
        return resized

    def _resize(self, images: UInt8[Tensor, "N 3 _ _"]) -> UInt8[Tensor, "N 3 H W"]:
        squash = self.preprocessing.resize_mode == "squash"
        images = image_functional.resize(
            images,
            list(self.size) if squash else [min(self.size)],
            interpolation=InterpolationMode(self.preprocessing.interpolation),
            antialias=True,
        )
        return images if squash else image_functional.center_crop(images, list(self.size))

    @torch.inference_mode()
    def encode(self, items: UInt8[Tensor, "N 3 H W"]) -> Tensor:
        """Embeddings (N, D) in the joint space, not made unit; on the device."""
        pictures = items.to(self.device, non_blocking=True).float()
        pictures.div_(255).sub_(self.mean).div_(self.std)  # in place: on a CPU memory is what costs
        pictures = pictures.to(self.dtype, memory_format=self.layout)
        return self.model.encode_image(pictures, normalize=False)

    def assemble(self, outputs: Iterable[Tensor], layout: FrameTimes) -> tuple[Track, str | None]:
        """One row per frame of the video; 0 and not valid where no picture was looked at."""
        n_rows, first = len(layout.time_s), 0
        values = np.zeros((n_rows, self.width), dtype=np.float16)
        valid = np.zeros(n_rows, dtype=bool)
        for output in outputs:
            rows = layout.rows[first : first + len(output)]
            values[rows] = to_stored(output)
            first += len(output)
        valid[layout.rows] = True
        return Track(values, layout.time_s, valid), layout.note


def _crop_clock(source: Source, folder: Path, decoder: Decoder, *, last_crop: int) -> FrameTimes:
    """The time of every row of a clip with crops: its video's frames, and at most three more."""
    if source.video is None:
        if source.fps is None:
            raise MediaError(
                f"clip {source.clip_id!r} has crops but no `video` to time them and no `fps`; "
                "add one of them to its line",
                "no-clock",
            )
        return constant_frame_times(last_crop, source.fps, "no video")
    times = decoder.clock(source.video, source.fps)
    beyond = last_crop - len(times.time_s)
    if beyond > MAX_LENGTH_MISMATCH:
        raise MediaError(
            f"{folder} has crop {last_crop}, but {source.video} has {len(times.time_s)} frames; at "
            f"most {MAX_LENGTH_MISMATCH} more are accepted: are these the crops of this video? "
            "correct `frames` or `video` in the manifest, or remove the crops that are too many",
            "crops",
        )
    return FrameTimes(extend_times(times.time_s, max(0, beyond)), times.rows, times.note)
