"""The AST encoder: ten embeddings of audio a second (Gong et al., 2021)."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from pydantic import Field
from torch import Tensor

from features.clip import Source, Track
from features.encoders.ast_windows import FBANK_HOP_S, FBANK_WINDOW_S, AudioWindows
from features.encoders.base import DTYPES, EncoderConfig, to_stored
from features.encoders.sound import ClipSound, sound_track
from features.encoders.transformers_files import ModelFiles, resolve_files
from features.errors import InputError, WeightsError
from features.media.decoder import Decoder
from features.spec import FeatureSpec, Modality

ARCHITECTURE = (  # every key of the network's config that affects the values
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "layer_norm_eps", "qkv_bias", "patch_size", "frequency_stride", "time_stride", "max_length",
    "num_mel_bins",
)  # fmt: skip
EPOCH = 1  # of the code below, see FeatureSpec.epoch


class AstConfig(EncoderConfig):
    """An AST model with its weights, and how its windows overlap."""

    kind: Literal["ast"] = "ast"
    modality: ClassVar[Modality] = "audio"
    model: str = "MIT/ast-finetuned-audioset-10-10-0.4593"
    """A name on the Hugging Face hub, or a local folder with config and weights."""
    hop_s: float = Field(default=5.12, gt=0)
    """From one window's start to the next: a multiple of 10 ms, from a step to a window."""
    keep: Literal["centre", "last"] = "centre"
    """Which of the overlapping windows provides a step: "centre" is the one with the nearest
    centre, "last" the first that contains it (causal: after the first window, no step depends on
    audio later than its hop)."""

    def spec(self) -> FeatureSpec:
        """Everything that determines the values; hashes the weights, builds no network."""
        return self.spec_of(resolve_files(self.model, "ast", "an AST"))

    def spec_of(self, files: ModelFiles) -> FeatureSpec:
        """The spec with files that are resolved."""
        from features.encoders.ast_model import load_extractor, network_config  # transformers: 3 s

        network, extractor = network_config(files), load_extractor(files)
        ours = f"{extractor.max_length} x {extractor.num_mel_bins}"
        theirs = f"{network.max_length} x {network.num_mel_bins}"
        if ours != theirs:
            raise WeightsError(
                f"{files.preprocessor} makes windows of {ours}, {files.config} wants {theirs}; "
                "both must be of one model"
            )
        _hop_frames(self, network.max_length, network.time_stride)
        return FeatureSpec(
            kind=self.kind,
            model={"name": "ASTModel", **{key: getattr(network, key) for key in ARCHITECTURE}},
            weights_sha256=files.weights.sha256,
            preprocessing={
                "rate_hz": extractor.sampling_rate,
                "mel_bins": extractor.num_mel_bins,
                "frames": extractor.max_length,
                "mean": extractor.mean,
                "std": extractor.std,
            },
            sampling={"hop_s": self.hop_s, "keep": self.keep, "pool": "mean over frequency"},
            precision=self.precision,
            epoch=EPOCH,
        )

    def build(self, device: torch.device) -> "AstEncoder":
        """Load the encoder; `WeightsError` if the weights are not an AST's."""
        return AstEncoder(self, device)


def _hop_frames(config: AstConfig, max_length: int, time_stride: int) -> int:
    """The hop in spectrogram frames; `InputError` if windows would leave gaps."""
    frames = round(config.hop_s / FBANK_HOP_S)
    off_grid = abs(frames * FBANK_HOP_S - config.hop_s) > 1e-9
    if off_grid or not time_stride <= frames <= max_length:
        raise InputError(
            f"encoders.ast.hop_s = {config.hop_s}: must be a multiple of {FBANK_HOP_S} s, at least "
            f"a step of {time_stride * FBANK_HOP_S:g} s and at most a window of "
            f"{max_length * FBANK_HOP_S:g} s"
        )
    return frames


@dataclass(frozen=True, slots=True)
class WindowLayout:
    """The position of each encoded window of a clip."""

    start_s: float
    """Presentation time of the first sample."""
    duration_s: float
    first_frame: Int64[np.ndarray, "N"]
    """The first spectrogram frame of each window."""
    note: str | None
    """Why there is no window, or what is unusual about the audio."""


class AstEncoder:
    """An AST, with the spectrogram of its feature extractor."""

    modality: Modality = "audio"
    cpu_batch = 2
    gpu_batch = 128

    def __init__(self, config: AstConfig, device: torch.device) -> None:
        from features.encoders.ast_model import load, load_extractor, step_centres_s, step_features

        files = resolve_files(config.model, "ast", "an AST")
        self.spec = config.spec_of(files)
        self.keep = config.keep
        self.device = device
        self.dtype = DTYPES[config.precision]
        self.extractor = load_extractor(files)
        self.rate_hz: int | None = self.extractor.sampling_rate
        self.model = load(files)
        self.model.to(device, self.dtype)  # pyright: ignore[reportCallIssue, reportArgumentType]
        network = self.model.config
        hop_frames = _hop_frames(config, network.max_length, network.time_stride)
        self.windows = AudioWindows(self.extractor, hop_frames)
        self.centre_s = step_centres_s(network)
        self.n_steps = len(self.centre_s)
        self.step_features = step_features

    def blank(self, n_items: int) -> Float32[Tensor, "N T M"]:
        """Windows of zeros."""
        return torch.zeros(n_items, self.extractor.max_length, self.extractor.num_mel_bins)

    def read(
        self, source: Source, decoder: Decoder
    ) -> Generator[Float32[Tensor, "N T M"] | WindowLayout, None, None]:
        """Yield normalised spectrogram windows; the last item has their positions."""
        n_windows, sound = 0, ClipSound(source, decoder, self.extractor.sampling_rate)
        for window in self.windows.from_blocks(sound.blocks()):
            n_windows += 1
            yield window[None]
        first_frame = np.arange(n_windows) * self.windows.hop_frames
        note = sound.note
        if sound.start_s is not None and not n_windows:
            note = f"the sound is shorter than {FBANK_WINDOW_S * 1000:g} ms"
        yield WindowLayout(sound.start_s or 0.0, sound.duration_s, first_frame, note)

    @torch.inference_mode()
    def encode(self, items: Float32[Tensor, "N T M"]) -> Tensor:
        """Embeddings (N, steps, D), on the device."""
        return self.step_features(self.model, items.to(self.device, self.dtype, non_blocking=True))

    def assemble(self, outputs: Iterable[Tensor], layout: WindowLayout) -> tuple[Track, str | None]:
        """One row per step inside the audio, each from the window that `keep` chooses."""
        if not len(layout.first_frame):
            empty = np.zeros((0, self.model.config.hidden_size), np.float16)
            return sound_track(empty, np.zeros(0)), layout.note
        window, step = self._kept_steps(layout)
        values = np.empty((len(window), self.model.config.hidden_size), np.float16)
        first = 0
        for output in outputs:
            stored, stop = to_stored(output), first + len(output)  # (n, steps, D)
            own = slice(*np.searchsorted(window, [first, stop]))
            values[own] = stored[window[own] - first, step[own]]
            first = stop
        time_s = layout.start_s + layout.first_frame[window] * FBANK_HOP_S + self.centre_s[step]
        return sound_track(values, time_s), layout.note

    def _kept_steps(
        self, layout: WindowLayout
    ) -> tuple[Int64[np.ndarray, "T"], Int64[np.ndarray, "T"]]:
        """The window of each row of the track, and the step in that window."""
        own = self.own_steps(layout.first_frame, is_end=True)
        centres_s = layout.first_frame[:, None] * FBANK_HOP_S + self.centre_s
        inside = centres_s < layout.duration_s
        inside[0, 0] = True  # audio that ends ahead of the first centre still has one row
        window, step = np.nonzero(own & inside)
        return window, step

    def own_steps(
        self, first_frame: Int64[np.ndarray, "N"], *, is_end: bool
    ) -> Bool[np.ndarray, "N S"]:
        """Which steps each of some windows provides, given its first spectrogram frame.

        Steps of overlapping windows are up to half a step apart; each window provides those in its
        own interval: around its centre, or its last ones. The first window of the audio also
        provides all earlier ones and, if `is_end`, the last one of these windows all later ones.
        """
        # in half spectrogram frames all of this is integer, so ties are exact
        stride = self.model.config.time_stride
        first = 2 * first_frame[:, None]
        position = first + 2 * stride * np.arange(self.n_steps)  # (N, steps)
        if self.keep == "centre":
            upper = first + stride * (self.n_steps - 1) + self.windows.hop_frames
        else:
            upper = first + stride * (2 * self.n_steps - 1)
        lower = upper - 2 * self.windows.hop_frames
        own = (position >= lower) & (position < upper)
        own |= (first == 0) & (position < lower)
        if is_end:
            own[-1] |= position[-1] >= upper[-1]
        return own
