"""Windows over packed rows: which rows are read, and which are predicted (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

from models.data.batch import Modality

SPAN_S = 10.0  # length of a causal window (Jung et al., 2026)
N_VISUAL = 20  # rows of a causal window, from the same source
N_AUDIO = 101
ROUNDING_S = 1e-6  # a row that begins at most this long after a time counts as shown at that time


@dataclass(frozen=True, slots=True)
class Rows:
    """Packed rows, window by window."""

    index: Int64[np.ndarray, "B T"]
    real: Bool[np.ndarray, "B T"]
    """False for padding, which has the index of some row of the same clip."""


@dataclass(frozen=True, slots=True)
class DenseWindows:
    """Spans of rows, each within one clip; every row of a span is predicted."""

    first_row: Int64[np.ndarray, "N"]
    n_rows: Int64[np.ndarray, "N"]
    """Rows without padding: `size`, or fewer if the whole clip is shorter."""
    size: int

    def __len__(self) -> int:
        return len(self.first_row)

    def take(self, chosen: Int64[np.ndarray, "B"]) -> "DenseWindows":
        """Return the windows with these indices, which must be sorted and may repeat."""
        return replace(self, first_row=self.first_row[chosen], n_rows=self.n_rows[chosen])

    def rows(self, chosen: Int64[np.ndarray, "B"]) -> Mapping[Modality, Rows]:
        """Return the rows of these windows, which are the same for all streams."""
        rows = self.predicted(chosen)
        return {"visual": rows, "audio": rows}

    def predicted(self, chosen: Int64[np.ndarray, "B"]) -> Rows:
        """Return the rows of these windows, all of which are predicted."""
        position = np.arange(self.size)
        n_rows = self.n_rows[chosen, None]  # (B, 1)
        index = self.first_row[chosen, None] + np.minimum(position, n_rows - 1)
        return Rows(index, position < n_rows)

    def spans(self) -> tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "N"]]:
        """Return the first row of each window, and the row after its last; both are sorted."""
        return self.first_row, self.first_row + self.n_rows


@dataclass(frozen=True, slots=True)
class CausalWindows:
    """Windows that predict their last row from rows at even steps over the `SPAN_S` before it.

    Steps before the beginning of the clip are padding.
    """

    target: Int64[np.ndarray, "N"]
    first_row: Int64[np.ndarray, "N"]
    """First row of the target's clip."""
    clock_s: Float64[np.ndarray, "R"]
    """Time of every packed row, on one increasing clock over all clips."""
    size: int = N_AUDIO

    def __len__(self) -> int:
        return len(self.target)

    def take(self, chosen: Int64[np.ndarray, "B"]) -> "CausalWindows":
        """Return the windows with these indices, which must be sorted and may repeat."""
        return replace(self, target=self.target[chosen], first_row=self.first_row[chosen])

    def rows(self, chosen: Int64[np.ndarray, "B"]) -> Mapping[Modality, Rows]:
        """Return `N_VISUAL` or `N_AUDIO` rows per window; the last is the target."""
        return {
            "visual": self._at_even_steps(chosen, N_VISUAL),
            "audio": self._at_even_steps(chosen, N_AUDIO),
        }

    def predicted(self, chosen: Int64[np.ndarray, "B"]) -> Rows:
        """Return the targets."""
        index = self.target[chosen, None]
        return Rows(index, np.ones_like(index, dtype=bool))

    def spans(self) -> tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "N"]]:
        """Return a lower bound of each window's rows, and the row after its last; both sorted."""
        begin_s = self.clock_s[self.target] - SPAN_S
        first = np.searchsorted(self.clock_s, begin_s, side="right") - 1
        return np.maximum(first, self.first_row), self.target + 1

    def _at_even_steps(self, chosen: Int64[np.ndarray, "B"], n: int) -> Rows:
        back_s = SPAN_S / n * np.arange(n - 1, -1, -1)  # (n,)
        at_s = self.clock_s[self.target[chosen], None] - back_s  # (B, n)
        index = np.searchsorted(self.clock_s, at_s + ROUNDING_S, side="right") - 1
        first = self.first_row[chosen, None]
        return Rows(np.maximum(index, first), index >= first)


Windows = DenseWindows | CausalWindows
"""The rows that are read, by modality, and those that are predicted, window by window."""


def dense_windows(offsets: Int64[np.ndarray, "N"], *, size: int, stride: int) -> DenseWindows:
    """Return windows over every row of every clip; clip c has rows [offsets[c], offsets[c + 1]).

    Windows begin every `stride` rows, except that the last one of a clip ends with the clip.
    Raises `ValueError` if the stride is larger than the size, which would leave rows out.
    """
    if not 1 <= stride <= size:
        raise ValueError(f"stride ({stride}) must be at least 1 and at most the window ({size})")
    empty = np.zeros(0, np.int64)  # the dtype, also of no clips
    first_row, n_rows = [empty], [empty]
    for start, stop in pairwise(offsets):
        last = max(stop - size, start)
        firsts = np.append(np.arange(start, last, stride), last)
        first_row.append(firsts)
        n_rows.append(np.full(len(firsts), min(size, stop - start)))
    return DenseWindows(np.concatenate(first_row), np.concatenate(n_rows), size)


def causal_windows(
    offsets: Int64[np.ndarray, "C"],
    time_s: Float64[np.ndarray, "R"],
    *,
    stride: int,
    stride_s: float | None = None,
    start_s: float = 0.0,
) -> CausalWindows:
    """Return a window for every `stride`-th row of every clip, counted from its last row.

    With `stride_s`, for the row shown at every `stride_s` seconds instead, counted from `start_s`.
    The first `start_s` seconds of a clip have no target.
    """
    empty = np.zeros(0, np.int64)  # the dtype, also of no clips
    target, first_row, clock_s = [empty], [empty], np.empty_like(time_s)
    begins_s = 0.0
    for start, stop in pairwise(offsets):
        clip_s = time_s[start:stop] - time_s[start]  # (T,)
        first = start + int(np.searchsorted(clip_s, start_s - ROUNDING_S))
        targets = np.arange(stop - 1, first - 1, -stride)[::-1]
        if stride_s is not None:
            at_s = np.arange(start_s, clip_s[-1] + ROUNDING_S, stride_s)
            targets = start + np.unique(
                np.searchsorted(clip_s, at_s + ROUNDING_S, side="right") - 1
            )
        target.append(targets)
        first_row.append(np.full(len(targets), start))
        clock_s[start:stop] = clip_s + begins_s
        begins_s = clock_s[stop - 1] + SPAN_S  # the clock increases from clip to clip
    return CausalWindows(np.concatenate(target), np.concatenate(first_row), clock_s)
