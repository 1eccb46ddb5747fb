"""The share of the windows of each data set in an epoch."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int64

from models.data.data_sets import SEPARATOR
from models.data.packed import PackedFeatures
from models.data.windows import Windows

Counts = list[tuple[Int64[np.ndarray, "_"], int]]
"""The indices of the windows of each set, and how many of them an epoch has."""


def windows_of_sets(
    packed: PackedFeatures, windows: Windows, weights: Mapping[str, float]
) -> Counts:
    """Return the windows of each set with how many of them an epoch has.

    That is their number times the weight of the set, by default 1.
    """
    names = np.array([clip_id.partition(SEPARATOR)[0] for clip_id in packed.clip_ids])
    clip = np.searchsorted(packed.offsets, windows.spans()[1] - 1, side="right") - 1  # (N,)
    found: Counts = []
    for name in dict.fromkeys(names.tolist()):
        index = np.flatnonzero(names[clip] == name)
        found.append((index, round(weights.get(name, 1.0) * len(index))))
    return found


def draw_windows(windows: Windows, counts: Counts, draw: np.random.Generator) -> Windows:
    """Return the windows of one epoch: those of a set equally often, give or take one."""
    chosen = []
    for index, n in counts:
        times, rest = divmod(n, len(index)) if len(index) else (0, 0)
        chosen += [np.repeat(index, times), draw.permutation(index)[:rest]]
    return windows.take(np.sort(np.concatenate(chosen)))
