"""The clock of a media file: jumps between recordings, and timestamps that are missing or wrong."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from features.media.packets import TrackPackets
from features.timeline import typical_step_s

MAX_STEP_BACK_S = 0.1  # of decoding times; the command `ffmpeg` has the same bound
MAX_STEP_FORWARD_S = 10.0  # likewise (`-dts_delta_threshold`), where a clock may start again
MAX_MENDED_SHARE = 0.2  # of the timestamps; if more are wrong, they are not those of the frames


class _Jump(NamedTuple):
    order: int
    track: int
    packet: int
    shift_s: float


def clock_shifts(
    tracks: Sequence[TrackPackets], *, may_restart: bool
) -> tuple[list[Float64[np.ndarray, "_"]], int]:
    """Return the seconds to add to the timestamps of each packet, by track, and how often they
    change: the jumps of the file's clock.

    A clock jumps if decoding times go back by more than 0.1 s and go on from there, as where two
    recordings were joined. In formats whose clock `may_restart` (transport and program streams),
    it also jumps if all tracks step forward by more than 10 s. Tracks that jump at the same place
    of the file are shifted by the same time, so that they stay in step; in those formats also a
    track without a jump, as where its sound starts late in the second recording.
    """
    jumps = sorted(
        jump
        for track, packets in enumerate(tracks)
        for jump in _jumps(track, packets, may_restart=may_restart)
    )
    shifts = [np.zeros(len(packets.order)) for packets in tracks]
    n_jumps = 0
    while jumps:
        first = jumps.pop(0)
        same = [first, *(other for other in jumps if _is_same_jump(tracks, first, other))]
        jumps = [jump for jump in jumps if jump not in same]
        if first.shift_s > 0 and _is_first_known(tracks, first):
            shifts[first.track][: first.packet] -= first.shift_s
            continue
        shift_s = max(jump.shift_s for jump in same)  # no track then overlaps what came before
        if shift_s < 0 and len(same) < len(tracks):
            continue  # a pause in one track
        n_jumps += 1
        starts = {jump.track: jump.packet for jump in same}
        for track, packets in enumerate(tracks):
            if may_restart and track not in starts:
                starts[track] = int(np.searchsorted(packets.order, first.order))
        for track, start in starts.items():
            shifts[track][start:] += shift_s
    return shifts, n_jumps


def _is_first_known(tracks: Sequence[TrackPackets], jump: _Jump) -> bool:
    """Whether another track has no timestamp before a jump: FFmpeg then guesses those before it.

    Matroska has none below 0; they are missing or, of audio, counted from 0.
    """
    others = [packets for track, packets in enumerate(tracks) if track != jump.track]
    before = [packets.dts[packets.order < jump.order] for packets in others]
    return any(len(dts) > 0 and bool(np.isnan(dts).all()) for dts in before)


def _is_same_jump(tracks: Sequence[TrackPackets], one: _Jump, other: _Jump) -> bool:
    """Whether two tracks jump at the same place of the file, which lies between their packets."""
    if one.track == other.track:
        return False
    is_near = abs(one.shift_s - other.shift_s) <= MAX_STEP_FORWARD_S
    both = ((one, other), (other, one))
    meet = all(tracks[a.track].order[a.packet - 1] <= b.order for a, b in both)
    return meet and (is_near or max(one.shift_s, other.shift_s) > 0)


def _jumps(track: int, packets: TrackPackets, *, may_restart: bool) -> list[_Jump]:
    """The jumps of one track; a single packet apart from its neighbours is none.

    Nor is a step from or to a packet that is hidden: an edit list has what of the track comes
    next, and the packets that this needs precede it.
    """
    known = np.flatnonzero(np.isfinite(packets.dts_s))
    time_s, is_shown = packets.dts_s[known], packets.is_shown[known]
    step_s = np.diff(time_s)
    usual_s = typical_step_s(time_s)
    jumps = []
    for k in np.flatnonzero((step_s < -MAX_STEP_BACK_S) | (step_s > MAX_STEP_FORWARD_S)):
        if not 0 < k < len(step_s) - 1 or (step_s[k] > 0 and not may_restart):
            continue
        if not is_shown[k : k + 2].all():
            continue
        across_s = np.array([time_s[k + 1] - time_s[k - 1], time_s[k + 2] - time_s[k]])
        if np.all(across_s < 0 if step_s[k] < 0 else across_s > MAX_STEP_FORWARD_S):
            packet = int(known[k + 1])
            shift_s = float(usual_s - step_s[k])
            jumps.append(_Jump(int(packets.order[packet]), track, packet, shift_s))
    return jumps


def mended_times(stamps_s: Sequence[float | None]) -> tuple[Float64[np.ndarray, "T"], int] | None:
    """Return increasing times of frames in presentation order, and how many were mended.

    The longest increasing series of timestamps is kept. The others, and missing ones, are placed
    evenly between their neighbours. Returns None if these are more than a fifth, and more than one;
    missing ones before the first (Matroska has none below 0) do not count.
    """
    time_s = np.array([np.nan if stamp is None else stamp for stamp in stamps_s])
    is_kept = _longest_increase(time_s)
    n_mended = int(np.count_nonzero(~is_kept))
    if not is_kept.any():
        return None
    kept = np.flatnonzero(is_kept)
    first, last, step_s = kept[0], kept[-1], typical_step_s(time_s[kept])
    n_early = int(first) if len(kept) > 1 and np.isnan(time_s[:first]).all() else 0
    if n_mended - n_early > max(1, MAX_MENDED_SHARE * (len(time_s) - n_early)):
        return None
    position = np.arange(len(time_s))
    mended = np.interp(position, kept, time_s[kept])
    mended[:first] -= step_s * (first - position[:first])
    mended[last + 1 :] += step_s * (position[last + 1 :] - last)
    return mended, n_mended


def _longest_increase(time_s: Float64[np.ndarray, "T"]) -> Bool[np.ndarray, "T"]:
    """Return which times belong to the longest strictly increasing series; NaN never does.

    Of two equal times in a row, the one is kept that leaves the more even steps.
    """
    ends_s: list[float] = []  # the smallest end of a series, by its length
    ends_at: list[int] = []
    previous = np.full(len(time_s), -1)
    for index in np.flatnonzero(np.isfinite(time_s)).tolist():
        length = bisect_left(ends_s, time_s[index])
        previous[index] = ends_at[length - 1] if length else -1
        ends_s[length : length + 1] = [time_s[index]]
        ends_at[length : length + 1] = [index]
    is_kept = np.zeros(len(time_s), bool)
    after, index = -1, ends_at[-1] if ends_at else -1
    while index >= 0:
        if index and after >= 0 and time_s[index - 1] == time_s[index]:
            before_s = time_s[index] - time_s[previous[index]] if previous[index] >= 0 else 0.0
            if time_s[after] - time_s[index] > before_s:
                is_kept[index - 1], after, index = True, index - 1, previous[index]
                continue
        is_kept[index], after, index = True, index, previous[index]
    return is_kept
