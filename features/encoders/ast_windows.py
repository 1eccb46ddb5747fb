"""From samples to the spectrogram windows of an AST, as the sound comes in."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torchaudio.compliance.kaldi import fbank
from transformers import ASTFeatureExtractor

FBANK_HOP_S = 0.010  # Kaldi's frame shift, as AST was trained (Gong et al., 2021)
FBANK_WINDOW_S = 0.025
FBANK_BLOCK = 1000  # spectrogram frames made at a time: ten seconds


@dataclass(frozen=True, slots=True)
class SoundWindows:
    """Windows a hop apart, each as `ASTFeatureExtractor` makes it of the same stretch of sound."""

    extractor: ASTFeatureExtractor
    hop_frames: int
    """From one window's start to the next, in spectrogram frames."""

    @property
    def real_frames(self) -> int:
        """Spectrogram frames that a window's length of sound gives: two fewer than its rows."""
        return self.extractor.max_length + 1 - ceil(FBANK_WINDOW_S / FBANK_HOP_S)

    def of(self, blocks: Iterable[Float32[np.ndarray, "_"]]) -> Iterator[Float32[Tensor, "T M"]]:
        """Every window of a sound that comes in blocks, until one reaches its end; normalised.

        No more of the sound is held than a block of the spectrogram is made of. None where it
        is shorter than one frame of the spectrogram.
        """
        held = torch.zeros(0, self.extractor.num_mel_bins)
        first, n_windows = 0, 0  # of what is held, in frames of the whole sound
        n_frames = 0
        for frames in self._frames(blocks):
            n_frames += len(frames)
            held = torch.cat([held, frames])
            while len(held) - (start := n_windows * self.hop_frames - first) >= self.real_frames:
                yield self.window(held, start)
                n_windows += 1
            gone = min(len(held), n_windows * self.hop_frames - first)
            held, first = held[gone:], first + gone
        for start in self.starts(n_frames)[n_windows:]:
            yield self.window(held, start - first)

    def starts(self, n_frames: int) -> list[int]:
        """First frames of the windows of a sound of so many frames."""
        if not n_frames:
            return []
        beyond_first = max(0, n_frames - self.real_frames)
        return [i * self.hop_frames for i in range(1 + ceil(beyond_first / self.hop_frames))]

    def window(self, spectrogram: Float32[Tensor, "_ M"], start: int) -> Float32[Tensor, "T M"]:
        """The window that begins with a frame of the spectrogram, padded to its length."""
        frames = spectrogram[start : start + self.real_frames]
        padded = torch.nn.functional.pad(frames, (0, 0, 0, self.extractor.max_length - len(frames)))
        return (padded - self.extractor.mean) / (self.extractor.std * 2)

    def spectrogram(self, samples: Float32[np.ndarray, "_"]) -> Float32[Tensor, "T M"]:
        """Kaldi's log mel filter bank of a whole sound, 10 ms a frame."""
        empty = torch.zeros(0, self.extractor.num_mel_bins)
        return torch.cat([empty, *self._frames([samples])])

    def _frames(
        self, blocks: Iterable[Float32[np.ndarray, "_"]]
    ) -> Iterator[Float32[Tensor, "_ M"]]:
        """The spectrogram, some frames at a time.

        Frames do not look beyond their own 25 ms: made apart they are those of the whole sound.
        """
        rate_hz = self.extractor.sampling_rate
        hop, width = round(FBANK_HOP_S * rate_hz), round(FBANK_WINDOW_S * rate_hz)
        enough = (FBANK_BLOCK - 1) * hop + width
        waiting: list[np.ndarray] = []
        n_waiting = 0
        for block in blocks:
            waiting.append(block.copy())  # it is another's memory, and soon holds what comes next
            n_waiting += len(block)
            if n_waiting < enough:
                continue
            samples = np.concatenate(waiting)
            while len(samples) >= enough:
                yield self._fbank(samples[:enough])
                samples = samples[FBANK_BLOCK * hop :]
            waiting, n_waiting = [samples], len(samples)
        samples = np.concatenate([*waiting, np.zeros(0, np.float32)])
        if len(samples) >= width:
            yield self._fbank(samples)

    def _fbank(self, samples: Float32[np.ndarray, "_"]) -> Float32[Tensor, "_ M"]:
        return fbank(
            torch.from_numpy(samples)[None],
            sample_frequency=self.extractor.sampling_rate,
            window_type="hanning",
            num_mel_bins=self.extractor.num_mel_bins,
        )
