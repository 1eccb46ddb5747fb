"""Extraction as a benchmark runs it: networks are loaded before, and what it leaves is taken away.

What is timed of it is all that is done for the clips: digests of the media after the run, decoding,
resizing, encoding, writing and syncing. Importing torch, reading weights and their digest, and the
start of the processes that decode, which falls into that time, is not.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.helpers.timing import Seconds
from features.encoders import AnyEncoderConfig
from features.extraction.extract import extract_features
from features.extraction.options import ExtractionOptions
from features.spec import FeatureSpec

STORES = Path("data/benchmarks/stores")
START_S = 1.0  # processes that decode start while weights are read: in less than this
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, eq=False)  # itself alone is the same
class Loaded:
    """An encoder's config whose weights are hashed and loaded once, for many runs."""

    config: AnyEncoderConfig
    hashed: FeatureSpec
    encoder: Any

    def spec(self) -> FeatureSpec:
        """What the config's own says."""
        return self.hashed

    def build(self, device: torch.device) -> Any:
        """The encoder that is there already, after the time that reading it would take at least."""
        time.sleep(START_S)
        return self.encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.config, name)


@dataclass(slots=True)
class Blind:
    """A CLIP encoder that reads and resizes, and encodes nothing: what is left is the way there."""

    encoder: Any

    def encode(self, items: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros(len(items), self.encoder.width)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)


def load(config: AnyEncoderConfig) -> Loaded:
    """The config with its encoder on the CPU."""
    return Loaded(config, config.spec(), config.build(CPU))


def blind(loaded: Loaded) -> Loaded:
    """The same without its network."""
    return replace(loaded, encoder=Blind(loaded.encoder))


def extract(
    manifest: Path, encoders: Sequence[Loaded], *, batch_size: int | None = None, readers: int = 2
) -> Seconds:
    """Every clip extracted to a store on this disk, which is gone afterwards; seconds it took.

    Counted from when the networks are there to when the last record is.
    """
    STORES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STORES) as folder:
        options = ExtractionOptions(
            f"{folder}/s.zarr",
            tuple(encoders),  # pyright: ignore[reportArgumentType]
            device="cpu",
            batch_size=batch_size,
            readers=readers,
        )
        done = extract_features(manifest, options)
    if done.failed:
        raise SystemExit(f"extraction failed: {done.failed[0].detail}")
    return Seconds(done.pass_s)


@torch.inference_mode()
def normalised(each: Loaded, items: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) in grey levels as the network takes them."""
    encoder = each.encoder
    return ((items / 255 - encoder.mean) / encoder.std).to(encoder.dtype)


@torch.inference_mode()
def see_bare(each: Loaded, ready: Tensor, n_frames: int) -> None:
    """So many frames through the bare CLIP, in batches of what is ready."""
    for at in range(0, n_frames, len(ready)):
        each.encoder.model.encode_image(ready[: n_frames - at])
