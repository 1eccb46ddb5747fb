"""The protocol of an encoder, and what encoders share."""

from abc import abstractmethod
from collections.abc import Generator, Iterable
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    Protocol,
    TypeVar,
    runtime_checkable,
)

import numpy as np
import torch
from jaxtyping import Float, Float16
from torch import Tensor

from features.clip import Source, Track
from features.config import Config
from features.errors import MediaError
from features.media.decoder import Decoder
from features.media.tracks import TrackNumbers
from features.spec import FeatureSpec, Modality

Precision = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

LayoutT = TypeVar("LayoutT")


class EncoderConfig(Config):
    """Settings of an encoder, all of which affect the values: no device, no batch size."""

    if TYPE_CHECKING:  # each encoder has its own, with a default
        kind: Any
    modality: ClassVar[Modality]
    precision: Precision = "float32"
    """The precision the network computes in; values are always stored in float16."""

    @abstractmethod
    def spec(self) -> FeatureSpec:
        """Everything that determines the values; hashes the weights, builds no network."""

    @abstractmethod
    def build(self, device: torch.device) -> "Encoder[Any]":
        """Load the encoder; `WeightsError` if the weights are not those of the model."""


def tracks_of(source: Source) -> TrackNumbers:
    """The tracks that a clip's line of the manifest asks for."""
    return TrackNumbers(source.video_track, source.audio_track)


def to_stored(values: Float[Tensor, "..."]) -> Float16[np.ndarray, "..."]:
    """Outputs in float16; `MediaError` if one is not finite in it."""
    halves = values.half().numpy()  # a value beyond float16 becomes infinite
    if not np.isfinite(halves).all():
        raise MediaError(
            "the encoder gave a value that is not finite, or beyond float16; is the input sound, "
            "the precision float32?",
            "not-finite",
        )
    return halves


@runtime_checkable
class Encoder(Protocol, Generic[LayoutT]):
    """A frozen network with its preprocessing.

    `read` runs in reader threads, `encode` on the device with batches that mix clips, `assemble`
    joins the outputs of one clip. None of them keeps state between calls.
    """

    spec: FeatureSpec
    modality: Modality
    device: torch.device
    cpu_batch: int
    """Default number of items per batch on a CPU."""
    gpu_batch: int
    """Default number of items per batch on a GPU, if they fit its memory."""
    rate_hz: int | None
    """Sample rate of the audio that it reads; None for a visual encoder."""

    def blank(self, n_items: int) -> Tensor:
        """Empty items of the shape that `read` yields, to fill a batch."""
        ...

    def read(self, source: Source, decoder: Decoder) -> Generator[Tensor | LayoutT, None, None]:
        """Yield the clip's items, (N, ...) at a time; the last item is their layout in time.

        Raises `MediaError` if the clip cannot be decoded.
        """
        ...

    def encode(self, items: Tensor) -> Tensor:
        """Outputs (N, ...) on the device, one per item."""
        ...

    def assemble(self, outputs: Iterable[Tensor], layout: LayoutT) -> tuple[Track, str | None]:
        """The clip's track, and a note on what is unusual about it.

        `outputs` are on the CPU, in the order of the items and split anywhere; they are iterated
        over once.
        """
        ...
