"""Windows over the rows of a bank (pure)."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int64


@dataclass(frozen=True, slots=True)
class Windows:
    """Spans of rows, each within one clip."""

    first_row: Int64[np.ndarray, "N"]
    n_rows: Int64[np.ndarray, "N"]
    """Real rows: `size`, or fewer where the whole clip is shorter; the rest is padding."""
    size: int

    def __len__(self) -> int:
        return len(self.first_row)


def dense_windows(offsets: Int64[np.ndarray, "N"], *, size: int, stride: int) -> Windows:
    """Windows that cover every row of every clip; clip c has rows [offsets[c], offsets[c + 1]).

    Windows begin every `stride` rows; the last one of a clip ends with the clip, whatever
    that does to its overlap. `ValueError` where a stride beyond the size would leave rows out.
    """
    if not 1 <= stride <= size:
        raise ValueError(f"stride ({stride}) must be at least 1 and at most the window ({size})")
    first_row, n_rows = [], []
    for start, stop in pairwise(offsets):
        last = max(stop - size, start)
        firsts = np.append(np.arange(start, last, stride), last)
        first_row.append(firsts)
        n_rows.append(np.full(len(firsts), min(size, stop - start)))
    if not first_row:
        return Windows(np.zeros(0, np.int64), np.zeros(0, np.int64), size)
    return Windows(np.concatenate(first_row), np.concatenate(n_rows).astype(np.int64), size)
