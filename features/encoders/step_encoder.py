"""What encoders share that make a row from every few samples of sound, window by window."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from pydantic import Field
from torch import Tensor

from features.clip import Source, Track
from features.encoders.base import DTYPES, EncoderConfig, to_stored
from features.encoders.sound import ClipSound, sound_track
from features.encoders.step_windows import StepWindows
from features.encoders.transformers_files import ModelFiles, resolve_files
from features.errors import InputError
from features.media.decoder import Decoder
from features.spec import FeatureSpec, Modality


class WindowConfig(EncoderConfig):
    """How the windows of an encoder overlap."""

    modality: ClassVar[Modality] = "audio"
    window_s: float = Field(default=10.0, ge=1, le=60)
    """Seconds that are encoded at once; longer sound is cut into windows."""
    hop_s: float = Field(default=5.0, gt=0)
    """From one window's start to the next: at most a window. Each row is taken from the window in
    which it has most context."""

    def step_windows(self, receptive: int, stride: int, rate_hz: int) -> StepWindows:
        """The windows on a clock of steps; `InputError` if the hop leaves gaps or is no step."""
        n_steps, hop = (round(s * rate_hz / stride) for s in (self.window_s, self.hop_s))
        if not 1 <= hop <= n_steps:
            raise InputError(
                f"encoders.{self.kind}.hop_s = {self.hop_s}: must be at least a step of "
                f"{stride / rate_hz:g} s and at most window_s = {self.window_s:g} s"
            )
        return StepWindows(n_steps, hop, receptive, stride)


class StepConfig(WindowConfig):
    """A network of transformers with its weights, and the layers that are taken."""

    model: str
    """A name on the Hugging Face hub, or a local folder with config and weights."""
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """The hidden layers whose mean is taken: 0 is what the convolutions give, 1 the first layer of
    the transformer; null: the last one."""

    def spec(self) -> FeatureSpec:
        """Everything that determines the values; hashes the weights, builds no network."""
        return self.spec_of(self.resolve())

    @abstractmethod
    def spec_of(self, files: ModelFiles) -> FeatureSpec:
        """The spec with files that are resolved."""

    def resolve(self) -> ModelFiles:
        """The files of the model; `WeightsError` if one is missing."""
        return resolve_files(self.model, self.kind, f"a {self.kind} model")

    def layers_of(self, network: Any) -> tuple[int, ...]:
        """The layers, in order; `InputError` if the network has fewer."""
        n_layers = network.num_hidden_layers
        layers = tuple(sorted({n_layers} if self.layers is None else set(self.layers)))
        if layers[-1] > n_layers:
            raise InputError(
                f"encoders.{self.kind}.layers has {layers[-1]}, and the network {n_layers} layers; "
                f"give numbers from 0 to {n_layers}"
            )
        return layers


@dataclass(frozen=True, slots=True)
class StepLayout:
    """How the steps of a clip lie in time."""

    start_s: float
    """Presentation time of the first sample."""
    n_steps: int
    note: str | None


class StepEncoder(ABC):
    """Makes rows of windows of samples; an item is the samples of one and, last, their number."""

    modality: Modality = "audio"
    cpu_batch = 1
    gpu_batch = 32

    def __init__(
        self,
        spec: FeatureSpec,
        windows: StepWindows,
        rate_hz: int,
        width: int,
        device: torch.device,
    ) -> None:
        self.spec, self.windows, self.width = spec, windows, width
        self.rate_hz: int | None = rate_hz
        self.device, self.dtype = device, DTYPES[spec.precision]

    @property
    @abstractmethod
    def centre(self) -> float:
        """The sample at which a step is centred, from the first sample of the step."""

    @abstractmethod
    def prepared(self, samples: Float32[np.ndarray, "_"]) -> Float32[np.ndarray, "_"]:
        """The samples of a window as `rows` reads them."""

    @abstractmethod
    def rows(self, samples: Float32[Tensor, "N S"]) -> Float[Tensor, "N T D"]:
        """The row of each step of windows of one length, on the device."""

    def blank(self, n_items: int) -> Float32[Tensor, "N S"]:
        """Windows without samples."""
        return torch.zeros(n_items, self.windows.n_samples + 1)

    def read(
        self, source: Source, decoder: Decoder
    ) -> Generator[Float32[Tensor, "N S"] | StepLayout, None, None]:
        """Yield windows of samples; the last item is their layout.

        Raises `MediaError` if the sound cannot be decoded.
        """
        assert self.rate_hz is not None
        sound = ClipSound(source, decoder, self.rate_hz)
        for window in self.windows.from_blocks(sound.blocks()):
            item, samples = self.blank(1), self.prepared(window)
            item[0, : len(samples)] = torch.from_numpy(samples)
            item[0, -1] = len(samples)
            yield item
        n_steps = self.windows.steps_of(round(sound.duration_s * self.rate_hz))
        note = sound.note
        if sound.start_s is not None and not n_steps:
            receptive_ms = self.windows.receptive / self.rate_hz * 1000
            note = f"the sound is shorter than {receptive_ms:g} ms"
        yield StepLayout(sound.start_s or 0.0, n_steps, note)

    @torch.inference_mode()
    def encode(self, items: Float32[Tensor, "N S"]) -> Float[Tensor, "N T D"]:
        """Embeddings of the steps of each window, on the device; 0 beyond the end of a short one.

        A short window is encoded by itself and without padding, which would change its rows: some
        networks take a mean over time, and attention reads whatever is there.
        """
        windows = self.windows
        lengths = items[:, -1].long()
        outputs = torch.zeros(
            len(items), windows.n_steps, self.width, dtype=self.dtype, device=self.device
        )
        is_full = lengths == windows.n_samples
        if is_full.any():
            outputs[is_full.to(self.device)] = self.rows(items[is_full, :-1])
        for index in (~is_full & (lengths > 0)).nonzero().flatten().tolist():
            rows = self.rows(items[index : index + 1, : lengths[index]])
            outputs[index, : rows.shape[1]] = rows[0]
        return outputs

    def assemble(
        self, outputs: Iterable[Float[Tensor, "_ T D"]], layout: StepLayout
    ) -> tuple[Track, str | None]:
        """One row per step, at its centre."""
        window = self.windows.window_of_steps(layout.n_steps)
        step = np.arange(layout.n_steps) - self.windows.starts(layout.n_steps)[window]
        values = np.empty((layout.n_steps, self.width), np.float16)
        first = 0
        for output in outputs:
            stored, stop = to_stored(output), first + len(output)
            own = slice(*np.searchsorted(window, [first, stop]))
            values[own] = stored[window[own] - first, step[own]]
            first = stop
        centre = np.arange(layout.n_steps) * self.windows.stride + self.centre
        return sound_track(values, layout.start_s + centre / (self.rate_hz or 1)), layout.note
