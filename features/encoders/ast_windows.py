"""Spectrogram windows of an AST, computed from a stream of samples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

FBANK_HOP_S = 0.010  # Kaldi's frame shift, as AST was trained (Gong et al., 2021)
FBANK_WINDOW_S = 0.025
FBANK_BLOCK = 1000  # spectrogram frames computed at a time: ten seconds


@dataclass(frozen=True, slots=True)
class AudioWindows:
    """Windows a hop apart, each equal to `ASTFeatureExtractor`'s of the same samples."""

    extractor: Any  # an `ASTFeatureExtractor` of transformers, which takes seconds to import
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
        stream = WindowStream(self, FBANK_BLOCK)
        for block in blocks:
            yield from stream.add(block)
        yield from stream.finish()

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
        """Yield Kaldi's log mel filter bank of audio, 10 ms a frame, some frames at a time."""
        stream = SpectrogramStream(self.extractor, FBANK_BLOCK)
        for block in blocks:
            yield from stream.add(block)
        yield from stream.finish()


class SpectrogramStream:
    """Kaldi's log mel filter bank of audio that comes in blocks, `n_frames` of 10 ms at a time.

    A frame depends on its own 25 ms only, so blocks give the same frames as the whole.
    """

    def __init__(self, extractor: Any, n_frames: int) -> None:
        self._extractor = extractor
        self._hop = round(FBANK_HOP_S * extractor.sampling_rate)
        self._width = round(FBANK_WINDOW_S * extractor.sampling_rate)
        self._step = n_frames * self._hop
        self._enough = self._step - self._hop + self._width
        self._pending: list[np.ndarray] = []
        self._n_pending = 0

    def add(self, block: Float32[np.ndarray, "_"]) -> Iterator[Float32[Tensor, "_ M"]]:
        """Yield the frames that the next samples complete."""
        self._pending.append(block.copy())  # the decoder reuses its memory for the next block
        self._n_pending += len(block)
        if self._n_pending < self._enough:
            return
        samples = np.concatenate(self._pending)
        while len(samples) >= self._enough:
            yield self._fbank(samples[: self._enough])
            samples = samples[self._step :]
        self._pending, self._n_pending = [samples], len(samples)

    def finish(self) -> Iterator[Float32[Tensor, "_ M"]]:
        """Yield the frames of the last samples."""
        samples = np.concatenate([*self._pending, np.zeros(0, np.float32)])
        if len(samples) >= self._width:
            yield self._fbank(samples)

    def _fbank(self, samples: Float32[np.ndarray, "_"]) -> Float32[Tensor, "_ M"]:
        from torchaudio.compliance.kaldi import fbank  # takes long

        return fbank(
            torch.from_numpy(samples)[None],
            sample_frequency=self._extractor.sampling_rate,
            window_type="hanning",
            num_mel_bins=self._extractor.num_mel_bins,
        )


class WindowStream:
    """Windows of audio that comes in blocks, each as soon as it is complete.

    `n_frames` of the spectrogram are computed at a time: of fewer, a window is complete earlier.
    """

    def __init__(self, windows: AudioWindows, n_frames: int) -> None:
        self._windows = windows
        self._spectrogram = SpectrogramStream(windows.extractor, n_frames)
        self._kept = torch.zeros(0, windows.extractor.num_mel_bins)
        self._first = 0  # the index of _kept[0] in the whole spectrogram
        self._n_frames = self._n_windows = 0

    def add(self, block: Float32[np.ndarray, "_"]) -> Iterator[Float32[Tensor, "T M"]]:
        """Yield the windows that the next samples complete."""
        for frames in self._spectrogram.add(block):
            yield from self._complete(frames)

    def finish(self) -> Iterator[Float32[Tensor, "T M"]]:
        """Yield the windows of the last samples, the last of them padded."""
        for frames in self._spectrogram.finish():
            yield from self._complete(frames)
        for start in self._windows.starts(self._n_frames)[self._n_windows :]:
            yield self._windows.window(self._kept, start - self._first)

    def _complete(self, frames: Float32[Tensor, "_ M"]) -> Iterator[Float32[Tensor, "T M"]]:
        windows = self._windows
        self._n_frames += len(frames)
        self._kept = torch.cat([self._kept, frames])
        while True:
            start = self._n_windows * windows.hop_frames - self._first
            if len(self._kept) - start < windows.real_frames:
                break
            self._n_windows += 1
            yield windows.window(self._kept, start)
        n_done = min(len(self._kept), self._n_windows * windows.hop_frames - self._first)
        self._kept, self._first = self._kept[n_done:], self._first + n_done
