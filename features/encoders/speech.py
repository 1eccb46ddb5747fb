"""The encoders wav2vec 2.0, HuBERT and WavLM: fifty embeddings of speech a second."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from pydantic import Field
from torch import Tensor

from features.clip import Source, Track
from features.encoders.base import DTYPES, EncoderConfig, to_stored
from features.encoders.sound import ClipSound, sound_track
from features.encoders.speech_model import architecture, load, network_config, settings_of
from features.encoders.step_windows import StepWindows
from features.encoders.transformers_files import ModelFiles, resolve_files
from features.errors import InputError
from features.media.decoder import Decoder
from features.spec import FeatureSpec, Modality

EPOCH = 1  # of the code below, see FeatureSpec.epoch
EPSILON = 1e-7  # added to the variance, as Wav2Vec2FeatureExtractor does


class SpeechConfig(EncoderConfig):
    """A network of the family of wav2vec 2.0 with its weights, and how its windows overlap."""

    modality: ClassVar[Modality] = "audio"
    model: str
    """A name on the Hugging Face hub, or a local folder with config and weights."""
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """The hidden layers whose mean is taken: 0 is what the convolutions give, 1 the first layer of
    the transformer; null: the last one."""
    window_s: float = Field(default=10.0, ge=1, le=60)
    """Seconds that are encoded at once; longer sound is cut into windows."""
    hop_s: float = Field(default=5.0, gt=0)
    """From one window's start to the next: at most a window. Each row is taken from the window in
    which it has most context."""

    def spec(self) -> FeatureSpec:
        """Everything that decides the values; hashes the weights, builds no network."""
        return self.spec_of(self.resolve())

    def spec_of(self, files: ModelFiles) -> FeatureSpec:
        """The spec with files that are resolved."""
        network, settings = network_config(files, self.kind), settings_of(files)
        windows = self.windows(network, settings["rate_hz"])
        return FeatureSpec(
            kind=self.kind,
            model={**architecture(network), "layers": list(self.layers_of(network))},
            weights_sha256=files.weights.sha256,
            preprocessing=settings,
            sampling={"window_steps": windows.n_steps, "hop_steps": windows.hop, "keep": "centre"},
            precision=self.precision,
            epoch=EPOCH,
        )

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

    def windows(self, network: Any, rate_hz: int) -> StepWindows:
        """The windows, on the clock of the network's convolutions."""
        receptive, stride = 1, 1
        for kernel, step in zip(network.conv_kernel, network.conv_stride, strict=True):
            receptive, stride = receptive + (kernel - 1) * stride, stride * step
        n_steps, hop = (round(s * rate_hz / stride) for s in (self.window_s, self.hop_s))
        if not 1 <= hop <= n_steps:
            raise InputError(
                f"encoders.{self.kind}.hop_s = {self.hop_s}: must be at least a step of "
                f"{stride / rate_hz:g} s and at most window_s = {self.window_s:g} s"
            )
        return StepWindows(n_steps, hop, receptive, stride)

    def build(self, device: torch.device) -> "SpeechEncoder":
        """Load the encoder; `WeightsError` if the weights are not those of the network."""
        return SpeechEncoder(self, device)


class Wav2Vec2Config(SpeechConfig):
    """A wav2vec 2.0 (Baevski et al., 2020)."""

    kind: Literal["wav2vec2"] = "wav2vec2"


class HubertConfig(SpeechConfig):
    """A HuBERT (Hsu et al., 2021)."""

    kind: Literal["hubert"] = "hubert"


class WavLmConfig(SpeechConfig):
    """A WavLM (Chen et al., 2022)."""

    kind: Literal["wavlm"] = "wavlm"


@dataclass(frozen=True, slots=True)
class SpeechLayout:
    """How the windows of a clip lie in time."""

    start_s: float
    """Presentation time of the first sample."""
    n_steps: int
    note: str | None


class SpeechEncoder:
    """A network on windows of samples; an item is the samples of one and, last, their number."""

    modality: Modality = "audio"
    cpu_batch = 1
    gpu_batch = 32

    def __init__(self, config: SpeechConfig, device: torch.device) -> None:
        files = config.resolve()
        self.spec = config.spec_of(files)
        self.device = device
        self.dtype = DTYPES[config.precision]
        settings = settings_of(files)
        self.rate_hz: int | None = settings["rate_hz"]
        self.normalises: bool = settings["normalise"]
        self.model = load(files, config.kind).to(device, self.dtype)
        self.layers = config.layers_of(self.model.config)
        self.windows = config.windows(self.model.config, settings["rate_hz"])
        self.width: int = self.model.config.hidden_size

    def blank(self, n_items: int) -> Float32[Tensor, "N S"]:
        """Windows without samples."""
        return torch.zeros(n_items, self.windows.n_samples + 1)

    def read(
        self, source: Source, decoder: Decoder
    ) -> Generator[Float32[Tensor, "N S"] | SpeechLayout, None, None]:
        """Yield windows of samples; the last item is their layout.

        Raises `MediaError` if the sound cannot be decoded.
        """
        assert self.rate_hz is not None
        sound = ClipSound(source, decoder, self.rate_hz)
        for samples in self.windows.from_blocks(sound.blocks()):
            item = self.blank(1)
            item[0, : len(samples)] = torch.from_numpy(self._normalised(samples))
            item[0, -1] = len(samples)
            yield item
        n_steps = self.windows.steps_of(round(sound.duration_s * self.rate_hz))
        note = sound.note
        if sound.start_s is not None and not n_steps:
            receptive_ms = self.windows.receptive / self.rate_hz * 1000
            note = f"the sound is shorter than {receptive_ms:g} ms"
        yield SpeechLayout(sound.start_s or 0.0, n_steps, note)

    def _normalised(self, samples: Float32[np.ndarray, "_"]) -> Float32[np.ndarray, "_"]:
        if not self.normalises:
            return samples
        return (samples - samples.mean()) / np.sqrt(samples.var() + EPSILON)

    @torch.inference_mode()
    def encode(self, items: Float32[Tensor, "N S"]) -> Float[Tensor, "N T D"]:
        """Embeddings of the steps of each window, on the device; 0 beyond the end of a short one.

        A short window is encoded by itself: some of these networks take a mean over time, which
        padding would change.
        """
        windows = self.windows
        lengths = items[:, -1].long()
        outputs = torch.zeros(
            len(items), windows.n_steps, self.width, dtype=self.dtype, device=self.device
        )
        is_full = lengths == windows.n_samples
        if is_full.any():
            outputs[is_full.to(self.device)] = self._hidden(items[is_full, :-1])
        for index in (~is_full & (lengths > 0)).nonzero().flatten().tolist():
            hidden = self._hidden(items[index : index + 1, : lengths[index]])
            outputs[index, : hidden.shape[1]] = hidden[0]
        return outputs

    def _hidden(self, samples: Float32[Tensor, "N S"]) -> Float[Tensor, "N T D"]:
        inputs = samples.to(self.device, self.dtype, non_blocking=True)
        found = self.model(inputs, output_hidden_states=True)
        # of large models, the last of the hidden states lacks the last layer norm in transformers 5
        hidden = (*found.hidden_states[:-1], found.last_hidden_state)
        return torch.stack([hidden[layer] for layer in self.layers]).mean(0)

    def assemble(
        self, outputs: Iterable[Float[Tensor, "_ T D"]], layout: SpeechLayout
    ) -> tuple[Track, str | None]:
        """One row per step, at the middle of its samples."""
        window = self.windows.window_of_steps(layout.n_steps)
        step = np.arange(layout.n_steps) - self._starts(layout)[window]
        values = np.empty((layout.n_steps, self.width), np.float16)
        first = 0
        for output in outputs:
            stored, stop = to_stored(output), first + len(output)
            own = slice(*np.searchsorted(window, [first, stop]))
            values[own] = stored[window[own] - first, step[own]]
            first = stop
        centre = np.arange(layout.n_steps) * self.windows.stride + self.windows.receptive / 2
        return sound_track(values, layout.start_s + centre / (self.rate_hz or 1)), layout.note

    def _starts(self, layout: SpeechLayout) -> Int64[np.ndarray, "N"]:
        return self.windows.starts(layout.n_steps)
