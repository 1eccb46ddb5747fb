"""AST embeddings of sound, ten a second, through transformers."""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64
from pydantic import Field
from torch import Tensor

from features.clip import Source, Track
from features.encoders.ast_model import extractor_of, load, network_config, resolve_ast
from features.encoders.ast_windows import FBANK_HOP_S, FBANK_WINDOW_S, SoundWindows
from features.encoders.base import DTYPES, EncoderConfig, to_stored
from features.errors import InputError, WeightsError
from features.media.audio import Block
from features.media.decoder import Decoder
from features.spec import FeatureSpec, Modality
from features.system.files import sha256_of

SPECIAL_TOKENS = 2  # class and distillation, before the patches
ARCHITECTURE = (  # every key of the network's config that decides numbers
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "layer_norm_eps",
    "qkv_bias",
    "patch_size",
    "frequency_stride",
    "time_stride",
    "max_length",
    "num_mel_bins",
)
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
    """Which of the windows that hold a step gives it: the one where it lies nearest the centre,
    or (causal: after the first window, no step hears past its hop) the first that holds it."""

    def spec(self) -> FeatureSpec:
        """Everything that decides the numbers; hashes the weights, builds no network."""
        files = resolve_ast(self.model)
        network, extractor = network_config(files), extractor_of(files)
        if (network.max_length, network.num_mel_bins) != (
            extractor.max_length,
            extractor.num_mel_bins,
        ):
            raise WeightsError(
                f"{files.preprocessor} makes windows of {extractor.max_length} x "
                f"{extractor.num_mel_bins}, {files.config} wants {network.max_length} x "
                f"{network.num_mel_bins}; both must be of one model"
            )
        _hop_frames(self, network.max_length, network.time_stride)
        return FeatureSpec(
            kind=self.kind,
            model={
                "name": "ASTModel",
                **{key: getattr(network, key) for key in ARCHITECTURE},
            },
            weights_sha256=sha256_of(files.weights),
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
        """Load the encoder; `WeightsError` where the weights are not an AST's."""
        return AstEncoder(self, device)


def _hop_frames(config: AstConfig, max_length: int, time_stride: int) -> int:
    """The hop in spectrogram frames; `InputError` where windows would leave holes in the sound."""
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
    """How the encoded windows of a clip lie in its sound."""

    start_s: float
    """Presentation time of the first sample."""
    duration_s: float
    first_frame: Int64[np.ndarray, "N"]
    """The spectrogram frame that each window begins with."""
    note: str | None
    """Why there is no window, if there is none."""


class AstEncoder:
    """An AST behind its feature extractor's spectrogram."""

    modality: Modality = "audio"
    cpu_batch = 2
    gpu_batch = 128

    def __init__(self, config: AstConfig, device: torch.device) -> None:
        files = resolve_ast(config.model)
        self.spec = config.spec()
        self.keep = config.keep
        self.device = device
        self.dtype = DTYPES[config.precision]
        self.extractor = extractor_of(files)
        self.model = load(files)
        self.model.to(device, self.dtype)  # pyright: ignore[reportCallIssue, reportArgumentType]
        network = self.model.config
        hop_frames = _hop_frames(config, network.max_length, network.time_stride)
        self.windows = SoundWindows(self.extractor, hop_frames)
        patch, bins = network.patch_size, network.num_mel_bins
        assert isinstance(patch, int)  # AST's patches are square
        self.n_mel_patches = 1 + (bins - patch) // network.frequency_stride
        self.n_steps = 1 + (network.max_length - patch) // network.time_stride
        # centre of step i: the middle of its patch's frames, each the middle of its 25 ms
        first_s = (patch - 1) / 2 * FBANK_HOP_S + FBANK_WINDOW_S / 2
        self.step_s = network.time_stride * FBANK_HOP_S
        self.centre_s = first_s + self.step_s * np.arange(self.n_steps)

    def blank(self, n_items: int) -> Float32[Tensor, "N T M"]:
        """Windows without sound."""
        return torch.zeros(n_items, self.extractor.max_length, self.extractor.num_mel_bins)

    @property
    def rate_hz(self) -> int:
        """What sound is brought to."""
        return self.extractor.sampling_rate

    def read(
        self, source: Source, decoder: Decoder
    ) -> Generator[Float32[Tensor, "N T M"], None, WindowLayout]:
        """Yield normalised spectrogram windows as the sound comes in; return where each lies."""
        path = source.audio or source.video
        if path is None:
            return _silent_encoder("the clip has no sound")
        heard = _CountedAudio(decoder.sound(path, self.rate_hz))
        n_windows = 0
        with closing(heard.blocks):
            for window in self.windows.of(heard):
                n_windows += 1
                yield window[None]
        if heard.start_s is None:
            return _silent_encoder("the clip has no sound")
        if not n_windows:
            return _silent_encoder(f"the sound is shorter than {FBANK_WINDOW_S * 1000:g} ms")
        firsts = np.arange(n_windows) * self.windows.hop_frames
        return WindowLayout(heard.start_s, heard.n_samples / self.rate_hz, firsts, None)

    @torch.inference_mode()
    def encode(self, items: Float32[Tensor, "N T M"]) -> Tensor:
        """Embeddings (N, steps, D): patch tokens, averaged over frequency; on the device."""
        windows = items.to(self.device, self.dtype, non_blocking=True)
        tokens = self.model(input_values=windows).last_hidden_state[:, SPECIAL_TOKENS:]
        grid = tokens.unflatten(1, (self.n_mel_patches, self.n_steps))  # frequency is the outer
        return grid.mean(dim=1)

    def assemble(self, outputs: Iterable[Tensor], layout: WindowLayout) -> tuple[Track, str | None]:
        """One row per step inside the sound, each from the window where it lies best."""
        if layout.note is not None:
            empty = np.zeros((0, self.model.config.hidden_size), np.float16)
            return Track(empty, np.zeros(0), np.zeros(0, bool)), layout.note
        window, step = self.kept_steps(layout)
        values = np.empty((len(window), self.model.config.hidden_size), np.float16)
        first = 0
        for output in outputs:
            found, stop = to_stored(output), first + len(output)  # (n, steps, D)
            own = slice(*np.searchsorted(window, [first, stop]))
            values[own] = found[window[own] - first, step[own]]
            first = stop
        time_s = layout.start_s + layout.first_frame[window] * FBANK_HOP_S + self.centre_s[step]
        return Track(values, time_s, np.ones(len(values), bool)), None

    def kept_steps(
        self, layout: WindowLayout
    ) -> tuple[Int64[np.ndarray, "T"], Int64[np.ndarray, "T"]]:
        """The window and the step in it that each row of the track is taken from.

        Where windows overlap, their steps lie within half a step of each other; a window gives
        those that are its own: nearest its centre, or the latest that no earlier window held.
        """
        # in halves of a spectrogram frame, where all of it is whole numbers: no tie can be lost
        stride = self.model.config.time_stride
        first = 2 * layout.first_frame[:, None]
        place = first + 2 * stride * np.arange(self.n_steps)  # (N, steps)
        if self.keep == "centre":
            upper = first + stride * (self.n_steps - 1) + self.windows.hop_frames
        else:
            upper = first + stride * (2 * self.n_steps - 1)
        lower = upper - 2 * self.windows.hop_frames
        own = (place >= lower) & (place < upper)
        own[0] |= place[0] < lower[0]
        own[-1] |= place[-1] >= upper[-1]
        centres_s = layout.first_frame[:, None] * FBANK_HOP_S + self.centre_s
        inside = centres_s < layout.duration_s
        inside[0, 0] = True  # a sound too short to reach a centre still has one row
        window, step = np.nonzero(own & inside)
        return window, step


def _silent_encoder(note: str) -> WindowLayout:
    return WindowLayout(0.0, 0.0, np.zeros(0, np.int64), note)


class _CountedAudio:
    """The blocks of a sound as they pass, with what is known of it at their end."""

    def __init__(self, blocks: Generator[Block, None, float | None]) -> None:
        self.blocks = blocks
        self.n_samples = 0
        self.start_s: float | None = None

    def __iter__(self) -> Generator[Block, None, None]:
        while True:
            try:
                block = next(self.blocks)
            except StopIteration as end:
                self.start_s = end.value
                return
            self.n_samples += len(block)
            yield block
