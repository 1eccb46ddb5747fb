"""Samples of decoded audio at one rate, in step with their timestamps."""

from collections.abc import Iterator

import av
import numpy as np
from jaxtyping import Float32

MAX_DRIFT_S = 0.010  # between samples and timestamps: one frame of the AST's spectrogram

Block = Float32[np.ndarray, "_"]


class SampleStream:
    """The audio of decoded frames, mono at `rate_hz`, in blocks of `n_block` samples.

    The samples stay within 10 ms of their timestamps: what was lost becomes silence, and what
    overlaps is dropped. So losses do not add up, and a clock that runs slow stays in step.
    """

    def __init__(self, rate_hz: int, n_block: int) -> None:
        self._rate_hz, self._n_block = rate_hz, n_block
        self.start_s: float | None = None
        """The time of the first sample; None before there is one."""
        self.end_s = 0.0
        """The end of the samples so far, on the clock of the timestamps."""
        self.n_samples = 0
        self._resampler = self._new_resampler()
        self._format: tuple[str, str, int] | None = None
        self._pending: list[Block] = []
        self._blocks: list[Block] = []
        self._n_pending = self._n_to_drop = 0
        self._n_silences = self._n_overlaps = 0

    def add(self, frame: av.AudioFrame, time_s: float) -> None:
        """Add the next frame, which is due at a time."""
        frame_format = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self.start_s is None:
            self.start_s = self.end_s = time_s
        drift_s = time_s - self.end_s
        if frame_format != self._format or abs(drift_s) > MAX_DRIFT_S:  # mono becomes stereo
            self._add_resampled(self._resampler.resample(None))
            self._resampler = self._new_resampler()
            self._format = frame_format
        if abs(drift_s) > MAX_DRIFT_S:
            self._follow(time_s)
        self.end_s += frame.samples / frame.sample_rate
        frame.pts = None  # or the resampler would fill the same gap again
        self._add_resampled(self._resampler.resample(frame))

    def take_blocks(self) -> list[Block]:
        """The blocks since the last call."""
        blocks, self._blocks = self._blocks, []
        return blocks

    def finish(self) -> None:
        """Make blocks of what is left."""
        if self.start_s is not None:
            self._add_resampled(self._resampler.resample(None))
        self._flush()

    def notes(self) -> Iterator[str]:
        """What is unusual about the timestamps, in words."""
        if n := self._n_silences:
            yield f"silence was inserted where audio is missing ({n}x)"
        if n := self._n_overlaps:
            yield f"audio that overlaps was dropped ({n}x)"

    def _follow(self, time_s: float) -> None:
        """Insert silence up to a time, or drop as much of what comes next."""
        n_missing = round((time_s - (self.start_s or 0.0)) * self._rate_hz) - self.n_samples
        self._n_to_drop = max(0, -n_missing)
        if n_missing > 0:
            self._add_silence(n_missing)
            self._n_silences += 1
        else:
            self._n_overlaps += 1
        self.end_s = time_s

    def _add_resampled(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            self._add_samples(frame.to_ndarray()[0])

    def _add_silence(self, n_samples: int) -> None:
        for start in range(0, n_samples, self._n_block):
            self._add_samples(np.zeros(min(self._n_block, n_samples - start), np.float32))

    def _add_samples(self, samples: Block) -> None:
        samples, n_dropped = samples[self._n_to_drop :], min(self._n_to_drop, len(samples))
        self._n_to_drop -= n_dropped
        self.n_samples += len(samples)
        self._n_pending += len(samples)
        self._pending.append(samples)
        if self._n_pending >= self._n_block:
            self._flush()

    def _flush(self) -> None:
        if self._n_pending:
            samples = np.concatenate(self._pending)
            starts = range(0, len(samples), self._n_block)
            self._blocks += [samples[start : start + self._n_block] for start in starts]
        self._pending, self._n_pending = [], 0

    def _new_resampler(self) -> av.AudioResampler:
        return av.AudioResampler(format="flt", layout="mono", rate=self._rate_hz)
