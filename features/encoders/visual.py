"""What visual encoders share: the images of a clip, and one row per frame of its video."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from features.canonical_json import JsonObject
from features.clip import Source, Track
from features.encoders.base import DTYPES, EncoderConfig, to_stored, tracks_of
from features.encoders.faces import FacesConfig, aligned_crops
from features.errors import MediaError
from features.media.crops import crop_files
from features.media.decoder import Decoder
from features.media.display import Image
from features.media.limits import check_frames
from features.media.sampling import EVERY_FRAME, Sampling
from features.spec import FeatureSpec, Modality
from features.timeline import MAX_LENGTH_MISMATCH, FrameTimes, constant_frame_times, extend_times

ImageItems = Generator[UInt8[Tensor, "N 3 H W"] | FrameTimes, None, None]


class VisualConfig(EncoderConfig):
    """An encoder of images, with the frames that it encodes."""

    modality: ClassVar[Modality] = "visual"
    sampling: Sampling = EVERY_FRAME
    """Which frames are encoded; the others are rows that are not valid."""
    faces: FacesConfig | None = None
    """How faces are found in videos without crops; null encodes whole frames."""

    def faces_spec(self) -> JsonObject:
        """The part of the preprocessing that says how faces are found.

        Empty if they are not, so that sets made before faces were found stay valid.
        """
        if self.faces is None:
            return {}
        faces = {"set": self.faces.spec().name, "alignment": self.faces.alignment.as_spec()}
        return {"faces": faces}

    def sampling_spec(self) -> JsonObject:
        """The sampling as a `FeatureSpec` has it."""
        return {"rows": self.sampling.as_spec(), "time": "presentation"}


class VisualEncoder(ABC):
    """An encoder with one row per frame: of its crop, of the face in it, or of the whole frame.

    Whoever derives from it gives `preprocess` and `encode`.
    """

    modality: Modality = "visual"
    rate_hz: int | None = None
    cpu_batch = 32
    gpu_batch = 512
    width: int
    """The width of an embedding."""

    def __init__(
        self, config: VisualConfig, spec: FeatureSpec, size: tuple[int, int], device: torch.device
    ) -> None:
        self.spec = spec
        self.size = size
        """Height and width of the images that `preprocess` returns."""
        self.device = device
        self.dtype = DTYPES[config.precision]
        self.sampling = config.sampling
        self.faces = config.faces

    @abstractmethod
    def preprocess(self, images: Sequence[Image]) -> UInt8[Tensor, "N 3 H W"]:
        """Images of any size as the encoder takes them."""

    @abstractmethod
    def encode(self, items: UInt8[Tensor, "N 3 H W"]) -> Float[Tensor, "N D"]:
        """Embeddings on the device."""

    def blank(self, n_items: int) -> UInt8[Tensor, "N 3 H W"]:
        """Black images."""
        return torch.zeros((n_items, 3, *self.size), dtype=torch.uint8)

    def read(self, source: Source, decoder: Decoder) -> ImageItems:
        """Yield preprocessed images; the last item has the row of each, and the time of every row.

        Raises `MediaError` if the clip cannot be decoded.
        """
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

    def _read_crops(self, source: Source, folder: Path, decoder: Decoder) -> ImageItems:
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

    def _read_faces(self, source: Source, config: FacesConfig, decoder: Decoder) -> ImageItems:
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

    def _preprocessed(self, items: Generator[list[Image] | FrameTimes, None, None]) -> ImageItems:
        with closing(items):
            for item in items:
                yield self.preprocess(item) if isinstance(item, list) else item

    def assemble(
        self, outputs: Iterable[Float[Tensor, "_ D"]], layout: FrameTimes
    ) -> tuple[Track, str | None]:
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


def resize(
    images: Sequence[Image],
    sides: Sequence[int],
    size: tuple[int, int],
    interpolation: str,
) -> UInt8[Tensor, "N 3 H W"]:
    """Images resized to `sides` and cut to `size` around the centre; within 2 grey levels of PIL.

    One side is that of the shorter edge, and keeps the proportions; two are height and width. The
    images are resized one by one, as their sizes may differ.
    """
    from torchvision.transforms import InterpolationMode  # takes seconds
    from torchvision.transforms.v2 import functional as image_functional

    mode = InterpolationMode(interpolation)
    resized = torch.empty((len(images), 3, *size), dtype=torch.uint8)
    for target, image in zip(resized.numpy(), images, strict=True):
        picture = torch.from_numpy(image).permute(2, 0, 1)[None]
        small = image_functional.resize(picture, list(sides), mode, antialias=True)
        if tuple(sides) != size:
            small = image_functional.center_crop(small, list(size))
        np.copyto(target, small[0].numpy())  # twice as fast as torch's copy to channels first
    return resized


class Normalise:
    """Scales images to [0, 1], and then by the mean and deviation that a network was trained with.

    It computes in float32, in place: the bandwidth of the memory is the limit.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def __call__(self, items: UInt8[Tensor, "N 3 H W"]) -> Float32[Tensor, "N 3 H W"]:
        """The images on the device."""
        images = items.to(self._mean.device, non_blocking=True).float()
        return images.div_(255).sub_(self._mean).div_(self._std)


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
