"""Mean and spread of the sound's energy: features of the voice without any network."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from features.clip import Source, Track
from features.encoders.base import DTYPES, EncoderConfig, to_stored
from features.encoders.sound import ClipSound, sound_track
from features.encoders.weights import NO_WEIGHTS
from features.media.decoder import Decoder
from features.spec import FeatureSpec, Modality

RATE_HZ = 16_000
STEP = 1600  # samples of a row: 100 ms
PIECE = 160  # samples of a piece: 10 ms
BANDS_HZ = (0, 250, 500, 1000, 2000, 4000, 8001)  # octaves; the last one has the last frequency
FLOOR = 1e-6  # the energy of silence, so that its logarithm is finite
WIDTH = 2 * (1 + len(BANDS_HZ) - 1 + 1)
EPOCH = 1  # of the code below, see FeatureSpec.epoch


class LoudnessConfig(EncoderConfig):
    """Mean and deviation of log energy, of that in six bands, and of zero crossings."""

    kind: Literal["loudness"] = "loudness"
    modality: ClassVar[Modality] = "audio"

    def spec(self) -> FeatureSpec:
        """Everything that determines the values."""
        return FeatureSpec(
            kind=self.kind,
            model={"name": "mean and spread", "bands_hz": list(BANDS_HZ)},
            weights_sha256=NO_WEIGHTS,
            preprocessing={"rate_hz": RATE_HZ, "window": "hann", "floor": FLOOR},
            sampling={"step_s": STEP / RATE_HZ, "piece_s": PIECE / RATE_HZ},
            precision=self.precision,
            epoch=EPOCH,
        )

    def build(self, device: torch.device) -> "LoudnessEncoder":
        """The encoder on a device."""
        return LoudnessEncoder(self, device)


@dataclass(frozen=True, slots=True)
class LoudnessLayout:
    """How the items of a clip lie in time."""

    start_s: float | None
    """Presentation time of the first sample; None if there is no sound."""
    note: str | None


class LoudnessEncoder:
    """Statistics of the ten pieces of each 100 ms."""

    modality: Modality = "audio"
    rate_hz: int | None = RATE_HZ
    cpu_batch = 256
    gpu_batch = 4096

    def __init__(self, config: LoudnessConfig, device: torch.device) -> None:
        self.spec = config.spec()
        self.device = device
        self.dtype = DTYPES[config.precision]
        self.window = torch.hann_window(PIECE, device=device)
        frequency_hz = torch.arange(PIECE // 2 + 1, device=device) * RATE_HZ / PIECE
        edges_hz = torch.tensor(BANDS_HZ, device=device)
        in_band = (frequency_hz >= edges_hz[:-1, None]) & (frequency_hz < edges_hz[1:, None])
        self.in_band = in_band.float()  # (bands, frequencies)

    def blank(self, n_items: int) -> Float32[Tensor, "N S"]:
        """Silence."""
        return torch.zeros(n_items, STEP)

    def read(
        self, source: Source, decoder: Decoder
    ) -> Generator[Float32[Tensor, "N S"] | LoudnessLayout, None, None]:
        """Yield pieces of 100 ms; the last item is their layout. The rest at the end is left out.

        Raises `MediaError` if the sound cannot be decoded.
        """
        sound, rest, n_rows = ClipSound(source, decoder, RATE_HZ), np.zeros(0, np.float32), 0
        for block in sound.blocks():
            samples = np.concatenate([rest, block])
            n_items = len(samples) // STEP
            if n_items:
                yield torch.from_numpy(samples[: n_items * STEP].reshape(n_items, STEP))
            n_rows, rest = n_rows + n_items, samples[n_items * STEP :]
        note = sound.note
        if sound.start_s is not None and not n_rows:
            note = f"the sound is shorter than {STEP / RATE_HZ * 1000:g} ms"
        yield LoudnessLayout(sound.start_s, note)

    @torch.inference_mode()
    def encode(self, items: Float32[Tensor, "N S"]) -> Float[Tensor, "N D"]:
        """The means of all measures over the pieces, then the deviations; on the device."""
        pieces = items.to(self.device).unflatten(1, (-1, PIECE))  # (N, pieces, samples)
        power = torch.fft.rfft(pieces * self.window).abs().square()
        energy = torch.cat([pieces.square().mean(2, keepdim=True), power @ self.in_band.T], dim=2)
        is_positive = pieces >= 0
        crossings = (is_positive[..., 1:] != is_positive[..., :-1]).float().mean(2, keepdim=True)
        measures = torch.cat([(energy + FLOOR).log(), crossings], dim=2).to(self.dtype)
        std, mean = torch.std_mean(measures, dim=1, correction=0)
        return torch.cat([mean, std], dim=1)

    def assemble(
        self, outputs: Iterable[Float[Tensor, "_ D"]], layout: LoudnessLayout
    ) -> tuple[Track, str | None]:
        """One row per 100 ms, at the middle of its samples."""
        values = np.concatenate([np.zeros((0, WIDTH), np.float16), *map(to_stored, outputs)])
        start_s = layout.start_s or 0.0
        time_s = start_s + (np.arange(len(values)) + 0.5) * STEP / RATE_HZ
        return sound_track(values, time_s), layout.note
