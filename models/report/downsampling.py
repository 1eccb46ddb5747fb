"""Downsampling of long curves for drawing (pure)."""

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

from features.timeline import extend_times

BUCKETS = 300  # about one per pixel of a figure's width, with two or three points each


def kept_rows(values: Float64[np.ndarray, "T"], buckets: int = BUCKETS) -> Int64[np.ndarray, "K"]:
    """Return the rows that suffice to draw a curve: the highest and the lowest of each bucket.

    The first NaN of a bucket, which keeps a gap, and the first and last row are kept too. At
    most `3 * buckets + 2` rows; all rows of a short curve.
    """
    n = len(values)
    if n <= 2 * buckets:
        return np.arange(n)
    kept = {0, n - 1}
    for start, stop in pairwise(np.linspace(0, n, buckets + 1).astype(int).tolist()):
        part = values[start:stop]
        missing = np.isnan(part)
        if missing.any():
            kept.add(start + int(missing.argmax()))
        if not missing.all():
            kept |= {start + int(np.nanargmin(part)), start + int(np.nanargmax(part))}
    return np.array(sorted(kept))


def stretches(
    rows: Bool[np.ndarray, "T"], time_s: Float64[np.ndarray, "T"]
) -> list[tuple[float, float]]:
    """Return runs of true rows as half-open time spans; a row lasts until the next one."""
    ends_s = extend_times(time_s, 1)
    turns = np.flatnonzero(np.diff(rows.astype(np.int8), prepend=0, append=0))
    return [(float(ends_s[a]), float(ends_s[b])) for a, b in turns.reshape(-1, 2)]
