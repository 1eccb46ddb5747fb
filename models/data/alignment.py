"""Tracks brought to the label clock: one row per video frame (pure)."""

import numpy as np
from jaxtyping import Float64

from features.clip import Track
from features.timeline import MAX_LENGTH_MISMATCH, extend_times

ROWS_AT_ONCE = 256  # whose float32 copies stay in a core's cache: twice as fast as all at once
SLACK = 1.5  # timestamps of a variable rate do not lie where they should
LONE_STEP_S = 0.1  # reach of a single step of sound, where there is no other to measure by


def pad_or_trim(track: Track, n_rows: int, max_length_mismatch: int = MAX_LENGTH_MISMATCH) -> Track:
    """The visual track with exactly `n_rows` rows.

    Rows beyond the last frame hold its embedding, each a median step later; frames beyond the
    last row go. `ValueError` where the two are more than `max_length_mismatch` apart.
    """
    n_frames = len(track.values)
    if abs(n_rows - n_frames) > max_length_mismatch or not n_frames:
        raise ValueError(
            f"{n_rows} label rows but {n_frames} video frames; they may differ by at most "
            f"{max_length_mismatch}, and there must be a frame"
        )
    if n_rows <= n_frames:
        return Track(track.values[:n_rows], track.time_s[:n_rows], track.valid[:n_rows])
    held = np.minimum(np.arange(n_rows), n_frames - 1)
    time_s = extend_times(track.time_s, n_rows - n_frames)
    return Track(track.values[held], time_s, track.valid[held])


def interpolate_audio(track: Track, at_s: Float64[np.ndarray, "N"]) -> Track:
    """The sound at the given times, linear between the centres of its steps.

    Up to one step before the first centre and after the last the end holds; farther out, and
    between centres of which one is not valid, the row is invalid and 0.
    """
    n_steps, width = track.values.shape
    if not n_steps:
        return Track(
            np.zeros((len(at_s), width), np.float16), at_s, np.zeros(len(at_s), dtype=bool)
        )
    reach_s = float(np.median(np.diff(track.time_s))) if n_steps > 1 else LONE_STEP_S
    place = np.interp(at_s, track.time_s, np.arange(n_steps, dtype=np.float64))  # (N,), ends held
    before = np.floor(place).astype(np.int64)
    after = np.ceil(place).astype(np.int64)
    weight = (place - before)[:, None].astype(np.float32)  # (N, 1) of `after`
    heard = (at_s >= track.time_s[0] - reach_s) & (at_s <= track.time_s[-1] + reach_s)
    valid = heard & track.valid[before] & track.valid[after]
    steps = track.values.astype(np.float32)
    values = np.zeros((len(at_s), width), np.float16)
    for start in range(0, len(at_s), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        between = (1 - weight[rows]) * steps[before[rows]] + weight[rows] * steps[after[rows]]
        values[rows] = np.where(valid[rows, None], between, 0)
    return Track(values, at_s, valid)


def fill_between_samples(track: Track, apart_s: float) -> Track:
    """The visual track of a set that looked at some frames only, linear between those it saw.

    `apart_s` is how far apart they should lie. A row is valid where the two about it lie no more
    than half as far again apart, and beyond the first and the last of them no farther than that:
    where a face was looked for and not found, none is made up.
    """
    at_s, seen_s = track.time_s, track.time_s[track.valid]
    if not len(seen_s):
        return track
    seen = Track(track.values[track.valid], seen_s, np.ones(len(seen_s), dtype=bool))
    filled = interpolate_audio(seen, at_s)
    ends_s = np.concatenate([[-np.inf], seen_s, [np.inf]])
    after_s = ends_s[1 + np.searchsorted(seen_s, at_s, side="left")]
    before_s = ends_s[np.searchsorted(seen_s, at_s, side="right")]
    between = after_s - before_s <= SLACK * apart_s
    near = np.minimum(after_s - at_s, at_s - before_s)  # the one that there is, at an end
    at_end = np.isinf(after_s - before_s) & (near <= SLACK * apart_s)
    valid = filled.valid & (between | at_end)
    return Track(np.where(valid[:, None], filled.values, np.float16(0)), at_s, valid)
