"""The encoders wav2vec 2.0, HuBERT and WavLM: fifty embeddings of speech a second."""

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from features.encoders.speech_model import architecture, load, network_config, settings_of
from features.encoders.step_encoder import StepConfig, StepEncoder
from features.encoders.step_windows import StepWindows
from features.encoders.transformers_files import ModelFiles
from features.spec import FeatureSpec

EPOCH = 1  # of the code below, see FeatureSpec.epoch
EPSILON = 1e-7  # added to the variance, as Wav2Vec2FeatureExtractor does


class SpeechConfig(StepConfig):
    """A network of the family of wav2vec 2.0."""

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

    def windows(self, network: Any, rate_hz: int) -> StepWindows:
        """The windows, on the clock of the network's convolutions."""
        receptive, stride = 1, 1
        for kernel, step in zip(network.conv_kernel, network.conv_stride, strict=True):
            receptive, stride = receptive + (kernel - 1) * stride, stride * step
        return self.step_windows(receptive, stride, rate_hz)

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


class SpeechEncoder(StepEncoder):
    """A network on samples, which its preprocessing may have scaled window by window."""

    def __init__(self, config: SpeechConfig, device: torch.device) -> None:
        files = config.resolve()
        settings = settings_of(files)
        model, rate_hz = load(files, config.kind), settings["rate_hz"]
        self.normalises: bool = settings["normalise"]
        windows = config.windows(model.config, rate_hz)
        super().__init__(config.spec_of(files), windows, rate_hz, model.config.hidden_size, device)
        self.model = model.to(device, self.dtype)
        self.layers = config.layers_of(model.config)

    @property
    def centre(self) -> float:
        """The middle of the samples that a step is made of."""
        return self.windows.receptive / 2

    def prepared(self, samples: Float32[np.ndarray, "_"]) -> Float32[np.ndarray, "_"]:
        """The samples of a window as `rows` reads them."""
        if not self.normalises:
            return samples
        return (samples - samples.mean()) / np.sqrt(samples.var() + EPSILON)

    def rows(self, samples: Float32[Tensor, "N S"]) -> Float[Tensor, "N T D"]:
        """The mean of the chosen hidden layers at each step of windows of one length."""
        inputs = samples.to(self.device, self.dtype, non_blocking=True)
        found = self.model(inputs, output_hidden_states=True)
        # of large models, the last of the hidden states lacks the last layer norm in transformers 5
        hidden = (*found.hidden_states[:-1], found.last_hidden_state)
        return torch.stack([hidden[layer] for layer in self.layers]).mean(0)
