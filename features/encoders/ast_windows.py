"""Spectrogram windows of an AST, computed from a stream of samples."""

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
FBANK_BLOCK = 1000  # spectrogram frames computed at a time: ten seconds


@dataclass(frozen=True, slots=True)
class AudioWindows:
    """Windows a hop apart, each equal to `ASTFeatureExtractor`'s of the same samples."""

    extractor: ASTFeatureExtractor
    hop_frames: int
    """From one window's start to the next, in spectrogram frames."""

    @property
    def real_frames(self) -> int:
        """Spectrogram frames of a window's duration of audio: two fewer than its rows."""
        return self.extractor.max_length + 1 - ceil(FBANK_WINDOW_S / FBANK_HOP_S)

    def from_blocks(
        self, blocks: Iterable[Float32[np.ndarray, "_"]]
    ) -> Iterator[Float32[Tensor, "T M"]]:
        """Yield the normalised windows of audio given in blocks, until one reaches its end.

        Yields nothing if the audio is shorter than one spectrogram frame. Keeps a window and one
        block of the spectrogram in memory, whatever the length.
        """
        kept = torch.zeros(0, self.extractor.num_mel_bins)
        first, n_windows = 0, 0  # `first` is the index of kept[0] in the whole spectrogram
        n_frames = 0
        for frames in self.spectrogram(blocks):
            n_frames += len(frames)
            kept = torch.cat([kept, frames])
            while len(kept) - (start := n_windows * self.hop_frames - first) >= self.real_frames:
                yield self.window(kept, start)
                n_windows += 1
            n_done = min(len(kept), n_windows * self.hop_frames - first)
            kept, first = kept[n_done:], first + n_done
        for start in self.starts(n_frames)[n_windows:]:
            yield self.window(kept, start - first)

    def starts(self, n_frames: int) -> list[int]:
        """The first frame of each window of a spectrogram of `n_frames`."""
        if not n_frames:
            return []
        beyond_first = max(0, n_frames - self.real_frames)
        return [i * self.hop_frames for i in range(1 + ceil(beyond_first / self.hop_frames))]

    def window(self, spectrogram: Float32[Tensor, "_ M"], start: int) -> Float32[Tensor, "T M"]:
        """The window that begins at a spectrogram frame, padded and normalised."""
        frames = spectrogram[start : start + self.real_frames]
        padded = torch.nn.functional.pad(frames, (0, 0, 0, self.extractor.max_length - len(frames)))
        return (padded - self.extractor.mean) / (self.extractor.std * 2)

    def spectrogram(
        self, blocks: Iterable[Float32[np.ndarray, "_"]]
    ) -> Iterator[Float32[Tensor, "_ M"]]:
        """Yield Kaldi's log mel filter bank of audio, 10 ms a frame, some frames at a time.

        A frame depends on its own 25 ms only, so blocks give the same frames as the whole.
        """
        rate_hz = self.extractor.sampling_rate
        hop, width = round(FBANK_HOP_S * rate_hz), round(FBANK_WINDOW_S * rate_hz)
        enough = (FBANK_BLOCK - 1) * hop + width
        pending: list[np.ndarray] = []
        n_pending = 0
        for block in blocks:
            pending.append(block.copy())  # the decoder reuses its memory for the next block
            n_pending += len(block)
            if n_pending < enough:
                continue
            samples = np.concatenate(pending)
            while len(samples) >= enough:
                yield self._fbank(samples[:enough])
                samples = samples[FBANK_BLOCK * hop :]
            pending, n_pending = [samples], len(samples)
        samples = np.concatenate([*pending, np.zeros(0, np.float32)])
        if len(samples) >= width:
            yield self._fbank(samples)

    def _fbank(self, samples: Float32[np.ndarray, "_"]) -> Float32[Tensor, "_ M"]:
        return fbank(
            torch.from_numpy(samples)[None],
            sample_frequency=self.extractor.sampling_rate,
            window_type="hanning",
            num_mel_bins=self.extractor.num_mel_bins,
        )
