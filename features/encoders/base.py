"""What an encoder promises: to say what decides its numbers, and to turn clips into tracks."""

from collections.abc import Generator, Iterable
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float16
from torch import Tensor

from features.clip import Source, Track
from features.config import Config
from features.errors import MediaError
from features.media.decoder import Decoder
from features.spec import FeatureSpec, Modality

Precision = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

LayoutT = TypeVar("LayoutT")


class EncoderConfig(Config):
    """Settings of an encoder. Every field decides numbers; where it runs is not a setting."""

    precision: Precision = "float32"
    """What the network computes in; values are stored in float16 all the same."""


def to_stored(values: Float[Tensor, "..."]) -> Float16[np.ndarray, "..."]:
    """Outputs as the store keeps them; `MediaError` where one is not finite in float16."""
    halves = values.half().numpy()  # what is beyond float16 becomes infinite
    if not np.isfinite(halves).all():
        raise MediaError(
            "the encoder gave a value that is not finite, or beyond float16; is the input sound, "
            "the precision float32?",
            "not-finite",
        )
    return halves


@runtime_checkable
class Encoder(Protocol, Generic[LayoutT]):
    """A frozen network with what belongs before and after it.

    `read` runs on readers' threads and has a decoder open what is not trusted; `encode` runs on
    the device with batches that mix clips; `assemble` joins the outputs of one clip. None of them
    keeps state between calls.
    """

    spec: FeatureSpec
    modality: Modality
    device: torch.device
    cpu_batch: int
    """Items per batch on a CPU, where nobody says."""
    gpu_batch: int
    """Items per batch on a GPU, where nobody says and memory allows."""

    @property
    def rate_hz(self) -> int | None:
        """What it wants sound at; None where it does not listen."""
        ...

    def blank(self, n_items: int) -> Tensor:
        """Items as `read` yields them, with nothing in them."""
        ...

    def read(self, source: Source, decoder: Decoder) -> Generator[Tensor, None, LayoutT]:
        """Yield the clip's items, (N, ...) at a time; return how they lie in time.

        Raises `MediaError` where the clip cannot be decoded.
        """
        ...

    def encode(self, items: Tensor) -> Tensor:
        """Outputs (N, ...) on the device, one per item."""
        ...

    def assemble(self, outputs: Iterable[Tensor], layout: LayoutT) -> tuple[Track, str | None]:
        """The clip's track, with a note that says why if it is empty.

        `outputs` are on the CPU, in the items' order, however they are cut; each is used once.
        """
        ...
