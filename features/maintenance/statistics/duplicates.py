"""Clips that may be the same: the pairs whose mean embeddings point most nearly the same way.

It finds copies under other ids, and people who share a video's sound. What was compressed anew
comes near the top of the list, and may lie below the mark. The order of rows in time is lost, so a
clip played backwards or more slowly counts as the same; a part of a longer clip is found only where
the rest is like it; and clips in which little happens may be as near as copies. A pair is a
question to whoever knows the media, not an answer.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from features.maintenance.statistics.result import LIKELY_SAME_COSINE
from features.system.parallel import parallel_sum

BLOCK = 1024  # clips that are compared with as many at once: 4 MiB of cosines
DECIMALS = 6  # of a cosine: float32 gives no more, and what is equal is to stay in order
NO_PAIR = -2.0  # below any cosine


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Two clips, by number, the lower first; the nearest pair is the least."""

    distance: float
    """1 - cosine."""
    first: int
    second: int

    @property
    def cosine(self) -> float:
        """Of the angle between the two."""
        return round(1 - self.distance, DECIMALS)


@dataclass(frozen=True, slots=True)
class Nearest:
    """The nearest of the pairs that were compared; forms a monoid under `+`."""

    n_wanted: int
    pairs: tuple[Pair, ...] = ()
    """At most `n_wanted`, the nearest first."""
    n_likely: int = 0
    """All pairs with a cosine of `LIKELY_SAME_COSINE` or more, listed or not."""

    def __add__(self, other: "Nearest") -> "Nearest":
        merged = heapq.merge(self.pairs, other.pairs)
        pairs = tuple(pair for pair, _ in zip(merged, range(self.n_wanted), strict=False))
        return Nearest(self.n_wanted, pairs, self.n_likely + other.n_likely)


def nearest_pairs(
    directions: Path,
    n_wanted: int,
    n_threads: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Nearest:
    """The nearest pairs of rows in a .npy file of float32 (N, D), each of length 1 or all zeros.

    Rows of zeros are in no pair. The file is mapped and compared block by block: N x N cosines
    are computed, 2 N^2 D operations, and never in memory.
    """
    starts = range(0, len(np.load(directions, mmap_mode="r")), BLOCK)
    if not starts:
        return Nearest(n_wanted)
    return parallel_sum(
        partial(_nearest_of_block, directions, n_wanted), starts, n_threads, on_done
    )


def _nearest_of_block(directions: Path, n_wanted: int, start: int) -> Nearest:
    """The nearest pairs of a block's rows with themselves and all later rows."""
    rows = np.load(directions, mmap_mode="r")
    block, nearest = rows[start : start + BLOCK], Nearest(n_wanted)
    for other in range(start, len(rows), BLOCK):
        cosines = _cosines(block, rows[other : other + BLOCK])
        if other == start:
            cosines[np.tri(len(block), dtype=bool)] = (
                NO_PAIR  # each pair once, and none with itself
            )
        is_full = len(nearest.pairs) == n_wanted
        floor = nearest.pairs[-1].cosine if is_full else -1.0
        chosen = _highest(cosines.ravel(), n_wanted, floor)
        firsts, seconds = np.divmod(chosen, cosines.shape[1])
        pairs = (
            Pair(1 - round(float(cosine), DECIMALS), start + first, other + second)
            for cosine, first, second in zip(
                cosines.ravel()[chosen], firsts.tolist(), seconds.tolist(), strict=True
            )
        )
        n_likely = int(np.count_nonzero(cosines >= np.float32(LIKELY_SAME_COSINE)))
        nearest += Nearest(n_wanted, tuple(sorted(pairs)), n_likely)
    return nearest


def _cosines(
    left: Float32[np.ndarray, "N D"], right: Float32[np.ndarray, "M D"]
) -> Float32[np.ndarray, "N M"]:
    """The cosine of each row with each, rounded; `NO_PAIR` where one of them is all zeros."""
    cosines = left @ right.T
    np.round(cosines, DECIMALS, out=cosines)
    np.minimum(cosines, 1, out=cosines)
    cosines[~left.any(axis=1)] = NO_PAIR
    cosines[:, ~right.any(axis=1)] = NO_PAIR
    return cosines


def _highest(
    cosines: Float32[np.ndarray, "N"], n_wanted: int, floor: float
) -> Int64[np.ndarray, "_"]:
    """Where the highest lie that are no lower than the floor; of equal ones the first."""
    chosen = np.flatnonzero(cosines >= np.float32(floor))
    if len(chosen) <= n_wanted:
        return chosen
    among = cosines[chosen]
    least = np.partition(among, -n_wanted)[-n_wanted]
    above, equal = chosen[among > least], chosen[among == least]
    return np.concatenate([above, equal[: n_wanted - len(above)]])
