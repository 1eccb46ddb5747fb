"""Timestamps by hand: 25 frames a second, so a step is 0.04 s."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.media.clock import clock_shifts, mended_times
from features.media.packets import TrackPackets
from features.media.tracks import MediaTrack

STEP_S = 0.04


def track(dts_s, first_order=0, spacing=2):
    """Packets with these decoding times; every `spacing`-th packet of the file is one of them."""
    n = len(dts_s)
    ticks = np.array(dts_s) * 1000
    return TrackPackets(
        np.arange(n) * spacing + first_order,
        ticks,
        ticks,
        np.full(n, 1000 * STEP_S),
        np.ones(n, bool),
        np.ones(n, bool),
        Fraction(1, 1000),
    )


def regular(n, start_s=0.0):
    return start_s + STEP_S * np.arange(n)


@pytest.mark.parametrize(
    ("stamps_s", "expected_s", "n_mended"),
    [
        ([0, 0.04, 0.08, 0.12], [0, 0.04, 0.08, 0.12], 0),
        ([0, 0.04, None, 0.12], [0, 0.04, 0.08, 0.12], 1),
        ([0, 0.04, 0.04, 0.12], [0, 0.04, 0.08, 0.12], 1),  # the second has the time of the first
        ([0, 0.08, 0.08, 0.12], [0, 0.04, 0.08, 0.12], 1),  # the first has the time of the second
        ([0, 0.04, 70, 0.12], [0, 0.04, 0.08, 0.12], 1),
        ([0, 0.04, -9, 0.12], [0, 0.04, 0.08, 0.12], 1),
        ([9, 0.04, 0.08, 0.12], [0, 0.04, 0.08, 0.12], 1),
        ([0, 0.04, 0.08, None], [0, 0.04, 0.08, 0.12], 1),
        ([None], None, 0),
        ([], None, 0),
        ([1, 3, 4, 2, 5, 7, 8, 6], None, 0),  # H.264 with B-frames in AVI
    ],
)
def test_a_bad_timestamp_is_placed_evenly_between_its_neighbours(stamps_s, expected_s, n_mended):
    found = mended_times([None if stamp is None else float(stamp) for stamp in stamps_s])
    if expected_s is None:
        assert found is None
    else:
        assert found is not None
        np.testing.assert_allclose(found[0], expected_s, atol=1e-12)
        assert found[1] == n_mended


@given(
    st.lists(st.floats(0.001, 2), min_size=20, max_size=60),
    st.data(),
)
def test_a_fifth_of_the_timestamps_may_be_wrong_and_the_others_stay(steps_s, data):
    true_s = np.cumsum(steps_s)
    n_bad = data.draw(st.integers(0, len(true_s) // 5))
    bad = data.draw(st.permutations(range(len(true_s))))[:n_bad]
    stamps_s = [None if k in bad else float(t) for k, t in enumerate(true_s)]
    found = mended_times(stamps_s)
    assert found is not None
    time_s, n_mended = found
    kept = [k for k in range(len(true_s)) if k not in bad]
    np.testing.assert_array_equal(time_s[kept], true_s[kept])
    assert n_mended == n_bad
    assert np.all(np.diff(time_s) > 0)


def test_tracks_that_jump_back_together_are_shifted_by_the_same_time():
    video = track(np.concatenate([regular(50, 1.4), regular(50, 1.4)]))
    # its 51st packet is still ahead of the 51st of the video, which is of the second recording
    audio = track(np.concatenate([regular(51, 1.3), regular(51, 1.3)]), first_order=-1)
    shifts, n_jumps = clock_shifts([video, audio], may_restart=False)
    assert n_jumps == 1
    for shift_s, n in zip(shifts, (50, 51), strict=True):
        np.testing.assert_allclose(shift_s[:n], 0)
        np.testing.assert_allclose(shift_s[n:], 51 * STEP_S)  # the audio is the longer one


def test_two_jumps_add_up():
    video = track(np.concatenate([regular(10)] * 3))
    [shift_s], n_jumps = clock_shifts([video], may_restart=False)
    assert n_jumps == 2
    np.testing.assert_allclose(video.dts_s + shift_s, regular(30))


@pytest.mark.parametrize("at", [0, 5, 9])
@pytest.mark.parametrize("stamp_s", [-3.0, 50.0, np.nan])
def test_one_bad_timestamp_is_no_jump(at, stamp_s):
    dts_s = regular(10)
    dts_s[at] = stamp_s
    [shift_s], n_jumps = clock_shifts([track(dts_s)], may_restart=True)
    assert n_jumps == 0
    np.testing.assert_array_equal(shift_s, 0)


def test_a_step_forward_is_a_jump_only_of_a_clock_that_may_restart_and_of_all_tracks():
    jumping = track(np.concatenate([regular(10), regular(10, 40.0)]))
    going_on = track(regular(20), first_order=1)
    assert clock_shifts([jumping], may_restart=False)[1] == 0
    assert clock_shifts([jumping, going_on], may_restart=True)[1] == 0  # a still picture
    both = [jumping, track(np.concatenate([regular(10), regular(10, 40.0)]), first_order=1)]
    shifts, n_jumps = clock_shifts(both, may_restart=True)
    assert n_jumps == 1
    for packets, shift_s in zip(both, shifts, strict=True):
        np.testing.assert_allclose(packets.dts_s + shift_s, regular(20), atol=1e-9)


def test_tracks_that_jump_at_different_times_are_shifted_each_by_itself():
    video = track(np.concatenate([regular(10), regular(10)]))
    audio = track(np.concatenate([regular(15, 5.0), regular(5, 0.4)]), first_order=1)
    shifts, n_jumps = clock_shifts([video, audio], may_restart=False)
    assert n_jumps == 2
    np.testing.assert_allclose(shifts[0][10:], 10 * STEP_S)
    np.testing.assert_allclose(audio.dts_s + shifts[1], regular(20, 5.0))


def test_packets_before_the_first_key_frame_are_not_due_whether_timed_or_not():
    pts = np.array([0, 40, np.nan, 160, 120, 200])
    shown, key = np.array([1, 1, 1, 1, 1, 0], bool), np.array([0, 0, 0, 1, 0, 0], bool)
    packets = TrackPackets(np.arange(6), pts, pts, np.full(6, 40.0), shown, key, Fraction(1, 1000))
    track = MediaTrack(0, packets, np.zeros(6, np.int64), None)
    # two before the key frame, one without a time, the key frame, one shown before it, one hidden
    assert track.is_due.tolist() == [False, False, False, True, False, False]
    assert track.first_s == 0.16
