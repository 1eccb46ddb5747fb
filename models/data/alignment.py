"""Feature tracks resampled to the label clock of one row per video frame (pure)."""

import numpy as np
from jaxtyping import Float64

from features.clip import Track
from features.timeline import MAX_LENGTH_MISMATCH, extend_times

ROWS_AT_ONCE = 256  # their float32 copies fit into a core's cache: twice as fast as all at once
SLACK = 1.5  # steps between neighbours, because a variable frame rate has uneven timestamps
DEFAULT_STEP_S = 0.1  # of a track with a single step


def check_lengths(n_rows: int, n_frames: int, max_length_mismatch: int) -> None:
    """Raise `ValueError` if label rows and frames differ by more than allowed."""
    if abs(n_rows - n_frames) > max_length_mismatch or not n_frames:
        raise ValueError(
            f"{n_rows} label rows but {n_frames} video frames; they may differ by at most "
            f"{max_length_mismatch}, and there must be a frame"
        )


def pad_or_trim(track: Track, n_rows: int, max_length_mismatch: int = MAX_LENGTH_MISMATCH) -> Track:
    """Return the visual track with exactly `n_rows` rows.

    Rows beyond the last frame repeat its embedding, each a median step later; frames beyond the
    last row are dropped. Raises `ValueError` as `check_lengths` does.
    """
    n_frames = len(track.values)
    check_lengths(n_rows, n_frames, max_length_mismatch)
    if n_rows <= n_frames:
        return Track(track.values[:n_rows], track.time_s[:n_rows], track.valid[:n_rows])
    index = np.minimum(np.arange(n_rows), n_frames - 1)
    time_s = extend_times(track.time_s, n_rows - n_frames)
    return Track(track.values[index], time_s, track.valid[index])


def interpolate_audio(track: Track, at_s: Float64[np.ndarray, "N"]) -> Track:
    """Return the audio track at the given times, interpolated between the centres of its steps.

    Up to one step before the first centre and after the last one, their values are repeated. A row
    farther out, or next to a centre that is not valid, is invalid and 0.
    """
    n_steps, width = track.values.shape
    values = np.zeros((len(at_s), width), np.float16)
    if not n_steps:
        return Track(values, at_s, np.zeros(len(at_s), dtype=bool))
    step_s = float(np.median(np.diff(track.time_s))) if n_steps > 1 else DEFAULT_STEP_S
    position = np.interp(at_s, track.time_s, np.arange(n_steps, dtype=np.float64))  # (N,), clamped
    before = np.floor(position).astype(np.int64)
    after = np.ceil(position).astype(np.int64)
    weight = (position - before)[:, None].astype(np.float32)  # (N, 1) of `after`
    within = (at_s >= track.time_s[0] - step_s) & (at_s <= track.time_s[-1] + step_s)
    valid = within & track.valid[before] & track.valid[after]
    steps = track.values.astype(np.float32)
    for start in range(0, len(at_s), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        between = (1 - weight[rows]) * steps[before[rows]] + weight[rows] * steps[after[rows]]
        values[rows] = np.where(valid[rows, None], between, 0)
    return Track(values, at_s, valid)


def fill_between_samples(track: Track, apart_s: float) -> Track:
    """Return a sparsely sampled visual track with the rows between samples interpolated.

    `apart_s` is the expected time between samples. A row is valid if its two neighbours are at
    most `SLACK * apart_s` apart or, before the first and after the last sample, if that sample is
    at most as far away. Thus rows are not interpolated across frames without a face.
    """
    at_s, sampled_s = track.time_s, track.time_s[track.valid]
    if not len(sampled_s):
        return track
    samples = Track(track.values[track.valid], sampled_s, np.ones(len(sampled_s), dtype=bool))
    filled = interpolate_audio(samples, at_s)
    ends_s = np.concatenate([[-np.inf], sampled_s, [np.inf]])
    after_s = ends_s[1 + np.searchsorted(sampled_s, at_s, side="left")]
    before_s = ends_s[np.searchsorted(sampled_s, at_s, side="right")]
    between = after_s - before_s <= SLACK * apart_s
    nearest_s = np.minimum(after_s - at_s, at_s - before_s)
    at_end = np.isinf(after_s - before_s) & (nearest_s <= SLACK * apart_s)
    valid = filled.valid & (between | at_end)
    return Track(np.where(valid[:, None], filled.values, np.float16(0)), at_s, valid)
