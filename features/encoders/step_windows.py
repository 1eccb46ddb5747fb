"""Overlapping windows of sound for networks that make a step from every few samples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64


@dataclass(frozen=True, slots=True)
class StepWindows:
    """Windows a hop apart; the last one ends with the sound, so that none is padded.

    Step k of the whole sound is made of the samples from `k * stride` to `k * stride + receptive`.
    """

    n_steps: int
    """Steps of a window."""
    hop: int
    """From one window's start to the next, in steps; at most `n_steps`."""
    receptive: int
    """Samples that a step is made of."""
    stride: int
    """Samples from one step to the next."""

    @property
    def n_samples(self) -> int:
        """Samples of a window."""
        return self.receptive + (self.n_steps - 1) * self.stride

    def steps_of(self, n_samples: int) -> int:
        """The number of steps of a sound."""
        return max(0, (n_samples - self.receptive) // self.stride + 1)

    def from_blocks(
        self, blocks: Iterable[Float32[np.ndarray, "_"]]
    ) -> Iterator[Float32[np.ndarray, "_"]]:
        """Yield the samples of each window; a sound that is shorter than a window as it is.

        Yields nothing if the sound is too short for one step. Keeps a window and a block in memory.
        """
        kept, first, n_windows = np.zeros(0, np.float32), 0, 0
        for block in blocks:
            kept = np.concatenate([kept, block])
            while len(kept) >= (start := n_windows * self.hop * self.stride - first) + (
                self.n_samples
            ):
                kept, first, n_windows = kept[start:], first + start, n_windows + 1
                yield kept[: self.n_samples]
        n_steps = self.steps_of(first + len(kept))
        if n_windows < len(starts := self.starts(n_steps)):
            begin = starts[-1] * self.stride - first
            yield kept[begin : begin + self.n_samples] if n_windows else kept

    def starts(self, n_steps: int) -> Int64[np.ndarray, "N"]:
        """The first step of each window of a sound with `n_steps`."""
        if n_steps <= self.n_steps:
            return np.arange(min(n_steps, 1))
        last = n_steps - self.n_steps
        return np.unique(np.append(np.arange(0, last + 1, self.hop), last))

    def window_of_steps(self, n_steps: int) -> Int64[np.ndarray, "T"]:
        """The window that each step of a sound is taken from: the one with the nearest centre.

        That is the one in which it has most context; of two, the earlier one.
        """
        starts = self.starts(n_steps)
        # twice the middle between the centres of neighbours, so that all is integer
        bounds = starts[:-1] + starts[1:] + self.n_steps - 1
        return np.searchsorted(bounds, 2 * np.arange(n_steps), side="left")
