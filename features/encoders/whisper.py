"""The encoder of Whisper: fifty embeddings of speech a second (Radford et al., 2023)."""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from pydantic import Field
from torch import Tensor

from features.encoders.step_encoder import StepConfig, StepEncoder
from features.encoders.step_windows import StepWindows
from features.encoders.transformers_files import ModelFiles
from features.errors import InputError
from features.spec import FeatureSpec

EPOCH = 1  # of the code below, see FeatureSpec.epoch


class WhisperConfig(StepConfig):
    """The half of a Whisper that listens; its decoder, which writes text, is not used."""

    kind: Literal["whisper"] = "whisper"
    window_s: float = Field(default=30.0, ge=1, le=60)
    """Seconds that are encoded at once, at most those that the network has positions for (30);
    longer sound is cut into windows."""
    hop_s: float = Field(default=15.0, gt=0)
    """From one window's start to the next: at most a window. Each row is taken from the window in
    which it has most context."""

    def spec_of(self, files: ModelFiles) -> FeatureSpec:
        """The spec with files that are resolved."""
        from features.encoders import whisper_model as models  # imports transformers: 3 s

        network = models.network_config(files)
        extractor = models.load_extractor(files, network)
        windows = self.windows(network, extractor)
        return FeatureSpec(
            kind=self.kind,
            model={**models.architecture(network), "layers": list(self.layers_of(network))},
            weights_sha256=files.weights.sha256,
            preprocessing={
                "rate_hz": extractor.sampling_rate,
                "mel_bins": extractor.feature_size,
                "fft": extractor.n_fft,
                "hop": extractor.hop_length,
                "padding": "none",
            },
            sampling={"window_steps": windows.n_steps, "hop_steps": windows.hop, "keep": "centre"},
            precision=self.precision,
            epoch=EPOCH,
        )

    def windows(self, network: Any, extractor: Any) -> StepWindows:
        """The windows, on the clock of the network's convolutions."""
        from features.encoders.whisper_model import FRAMES_PER_STEP

        stride, rate_hz = FRAMES_PER_STEP * extractor.hop_length, extractor.sampling_rate
        windows = self.step_windows(stride, stride, rate_hz)
        if windows.n_steps > network.max_source_positions:
            most_s = network.max_source_positions * stride / rate_hz
            raise InputError(
                f"encoders.whisper.window_s = {self.window_s:g}: the network has positions for "
                f"{most_s:g} s; give at most that"
            )
        return windows

    def build(self, device: torch.device) -> "WhisperEncoder":
        """Load the encoder; `WeightsError` if the weights are not those of the network."""
        return WhisperEncoder(self, device)


class WhisperEncoder(StepEncoder):
    """A Whisper's encoder, with the spectrogram of its feature extractor."""

    def __init__(self, config: WhisperConfig, device: torch.device) -> None:
        from features.encoders import whisper_model as models

        files = config.resolve()
        model = models.load(files)
        self.extractor = models.load_extractor(files, model.config)
        self.hidden_layers = models.hidden_layers
        windows, rate_hz = (
            config.windows(model.config, self.extractor),
            self.extractor.sampling_rate,
        )
        super().__init__(config.spec_of(files), windows, rate_hz, model.config.d_model, device)
        self.model = model.to(device, self.dtype)
        self.layers = config.layers_of(model.config)

    @property
    def centre(self) -> float:
        """Step k is centred in spectrogram frame 2 k, which is centred at the step's first sample.

        torch.stft centres its frames so, and both convolutions are padded by one on each side.
        """
        return 0.0

    def prepared(self, samples: Float32[np.ndarray, "_"]) -> Float32[np.ndarray, "_"]:
        """The samples of whole steps; what is left at the end makes none."""
        return samples[: self.windows.steps_of(len(samples)) * self.windows.stride]

    def rows(self, samples: Float32[Tensor, "N S"]) -> Float[Tensor, "N T D"]:
        """The mean of the chosen hidden layers at each step of windows of one length."""
        spectrograms = self.extractor(
            list(samples.numpy()),
            sampling_rate=self.rate_hz,
            padding="do_not_pad",
            return_tensors="pt",
            device=str(self.device),
        ).input_features
        inputs = spectrograms.to(self.device, self.dtype)
        layers = enumerate(self.hidden_layers(self.model, inputs))
        chosen = [states for layer, states in layers if layer in self.layers]
        return torch.stack(chosen).mean(0)
