"""Clips that may be duplicates: pairs whose mean embeddings have a high cosine.

The search finds copies with other ids, and people who share the sound of a video. A compressed copy
is near the top of the list but may be below `LIKELY_SAME_COSINE`. The mean does not depend on the
order of rows, so a clip that is played backwards or slower counts as the same; a part of a longer
clip is found only if the rest is similar; and clips in which little happens may be as similar as
copies. Whether a pair is one clip can only be seen in the media.
"""

import heapq
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from features.system.parallel import parallel_sum

LIKELY_SAME_COSINE = 0.9999  # of probable copies; other pairs of the demo's set reach 0.998
BLOCK = 1024  # clips that are compared with as many others at once: 4 MiB of cosines
DECIMALS = 6  # of a cosine: float32 has no more, and pairs with equal cosines must stay in order
NO_PAIR = -2.0  # less than any cosine


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two clips by index, the lower first; the most similar pair is the least in order."""

    distance: float
    """1 - cosine."""
    first: int
    second: int

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the two mean vectors."""
        return round(1 - self.distance, DECIMALS)


@dataclass(frozen=True, slots=True)
class Nearest:
    """The most similar of the pairs that were compared; a monoid under `+`."""

    n_pairs: int
    """Length of `pairs`, if that many pairs were compared."""
    pairs: tuple[Pair, ...] = ()
    """Highest cosine first."""
    n_likely: int = 0
    """Number of pairs with a cosine of at least `LIKELY_SAME_COSINE`, in `pairs` or not."""

    def __add__(self, other: "Nearest") -> "Nearest":
        pairs = tuple(islice(heapq.merge(self.pairs, other.pairs), self.n_pairs))
        return Nearest(self.n_pairs, pairs, self.n_likely + other.n_likely)


def nearest_pairs(mean_vectors: Path, n_pairs: int, n_threads: int | None = None) -> Nearest:
    """Return the most similar pairs of rows in a .npy file of float32 (N, D).

    Each row has length 1 or is all zeros; a row of zeros is in no pair. The file is memory-mapped
    and compared block by block, so the N x N cosines (2 N^2 D operations) are never in memory.
    """
    starts = range(0, len(np.load(mean_vectors, mmap_mode="r")), BLOCK)
    if not starts:
        return Nearest(n_pairs)
    return parallel_sum(partial(_nearest_of_block, mean_vectors, n_pairs), starts, n_threads)


def _nearest_of_block(mean_vectors: Path, n_pairs: int, start: int) -> Nearest:
    """Return the most similar pairs of a block's rows with each other and with all later rows."""
    rows = np.load(mean_vectors, mmap_mode="r")
    block, nearest = rows[start : start + BLOCK], Nearest(n_pairs)
    for other in range(start, len(rows), BLOCK):
        cosines = _cosines(block, rows[other : other + BLOCK])
        if other == start:
            cosines[np.tri(len(block), dtype=bool)] = NO_PAIR  # each pair once, no row with itself
        is_full = len(nearest.pairs) == n_pairs
        floor = nearest.pairs[-1].cosine if is_full else -1.0
        highest = np.unravel_index(_highest(cosines.ravel(), n_pairs, floor), cosines.shape)
        pairs = (
            Pair(1 - round(float(cosines[row, column]), DECIMALS), start + row, other + column)
            for row, column in np.transpose(highest).tolist()
        )
        n_likely = int(np.count_nonzero(cosines >= np.float32(LIKELY_SAME_COSINE)))
        nearest += Nearest(n_pairs, tuple(sorted(pairs)), n_likely)
    return nearest


def _cosines(
    left: Float32[np.ndarray, "N D"], right: Float32[np.ndarray, "M D"]
) -> Float32[np.ndarray, "N M"]:
    """Return the cosine of each row with each, rounded; `NO_PAIR` for a row of zeros."""
    cosines = left @ right.T
    np.round(cosines, DECIMALS, out=cosines)
    np.minimum(cosines, 1, out=cosines)
    cosines[~left.any(axis=1)] = NO_PAIR
    cosines[:, ~right.any(axis=1)] = NO_PAIR
    return cosines


def _highest(
    cosines: Float32[np.ndarray, "N"], n_pairs: int, floor: float
) -> Int64[np.ndarray, "_"]:
    """Return the indices of the highest cosines from `floor` on; of equal ones the first."""
    chosen = np.flatnonzero(cosines >= np.float32(floor))
    if len(chosen) <= n_pairs:
        return chosen
    candidates = cosines[chosen]
    least = np.partition(candidates, -n_pairs)[-n_pairs]
    above, equal = chosen[candidates > least], chosen[candidates == least]
    return np.concatenate([above, equal[: n_pairs - len(above)]])
