from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.windows import N_AUDIO, N_VISUAL, SPAN_S, causal_windows, dense_windows


def spans(offsets, size, stride):
    windows = dense_windows(np.array(offsets), size=size, stride=stride)
    return list(zip(windows.first_row.tolist(), windows.n_rows.tolist(), strict=True))


def test_windows_by_hand():
    # 750 rows: 0, 200, 400, and the last one right-aligned at 450
    assert spans([0, 750], 300, 200) == [(0, 300), (200, 300), (400, 300), (450, 300)]
    # 700 rows: 400 is right-aligned already
    assert spans([0, 700], 300, 200) == [(0, 300), (200, 300), (400, 300)]
    # a short clip, an exact one, and one row more: none reaches into its neighbour
    assert spans([0, 100, 400, 701], 300, 200) == [(0, 100), (100, 300), (400, 300), (401, 300)]


def test_no_clip_no_window():
    assert len(dense_windows(np.array([0]), size=3, stride=2)) == 0


@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.integers(1, 12), st.data())
def test_every_row_is_covered_and_no_window_crosses_clips(lengths, size, data):
    stride = data.draw(st.integers(1, size))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    clip_of = np.repeat(np.arange(len(lengths)), lengths)
    covered = np.zeros(offsets[-1], dtype=int)
    for first, n_rows in spans(offsets, size, stride):
        rows = slice(first, first + n_rows)
        covered[rows] += 1
        assert len(set(clip_of[rows])) == 1
        assert n_rows == min(size, lengths[clip_of[first]])
    assert (covered > 0).all()


@pytest.mark.parametrize("stride", [0, 11])
def test_a_stride_that_leaves_rows_out_is_refused(stride):
    message = rf"stride \({stride}\) must be at least 1 and at most the window \(10\)"
    with pytest.raises(ValueError, match=message):
        dense_windows(np.array([0, 30]), size=10, stride=stride)


def test_causal_windows_by_hand():
    # 25 rows a second for 12 s, then a clip of 3 rows a second that lasts one second
    time_s = np.concatenate([np.arange(300) / 25, 100 + np.arange(3) / 3])
    offsets = np.array([0, 300, 303])
    windows = causal_windows(offsets, time_s, stride=100)
    assert windows.target.tolist() == [99, 199, 299, 302]  # the last row of a clip is among them
    seen = windows.rows(np.array([2, 0, 3]))["visual"]
    assert seen.index.shape == (3, N_VISUAL)
    # 20 rows half a second apart, ending with the target: 12.5 rows, the row that was on show
    assert seen.index[0, -3:].tolist() == [274, 286, 299]
    assert seen.index[0, 0] == 299 - 238  # 9.5 s earlier lie 237.5 rows
    assert seen.real[0].all()
    # row 99 is 3.96 s in: steps 0 to 7 of half a second back are there, earlier ones are not
    assert seen.real[1].tolist() == [False] * 12 + [True] * 8
    assert (seen.index[1][:12] == 0).all()
    # the second clip lasts 2/3 s: the target, and the row on show half a second before
    assert seen.index[2, -2:].tolist() == [300, 302]
    assert seen.real[2].tolist() == [False] * 18 + [True] * 2
    heard = windows.rows(np.array([0]))["audio"]
    assert heard.index.shape == (1, N_AUDIO)
    assert heard.index[0, -1] == 99
    told = windows.predicted(np.array([2, 3]))
    assert told.index.tolist() == [[299], [302]]
    assert told.real.all()


def test_causal_targets_at_even_times_by_hand():
    # 12.5 rows a second for 16.4 s, then a clip of 9 s: rows are 80 ms apart
    time_s = np.concatenate([7 + np.arange(206) * 0.08, np.arange(113) * 0.08])
    offsets = np.array([0, 206, 319])
    # targets at 10, 13 and 16 s: rows 125 (10 s), 162 (12.96 s) and 200 (16 s); the second clip
    # ends before the first of them
    windows = causal_windows(offsets, time_s, stride=1, stride_s=3.0, start_s=10.0)
    assert windows.target.tolist() == [125, 162, 200]
    assert windows.rows(np.array([0]))["visual"].real.all()  # no window reaches before its clip
    # from the beginning: 0, 3, ... 15 s, and 0, 3, 6 s of the second one, which ends at 8.96 s
    windows = causal_windows(offsets, time_s, stride=1, stride_s=3.0)
    assert windows.target.tolist() == [0, 37, 75, 112, 150, 187, 206, 243, 281]
    # rows counted from the last one, the first 10 s without a target
    windows = causal_windows(offsets, time_s, stride=40, start_s=10.0)
    assert windows.target.tolist() == [125, 165, 205]
    assert causal_windows(offsets, time_s, stride=40, start_s=10.01).target.tolist() == [165, 205]
    # closer than the rows: each is a target once
    windows = causal_windows(offsets, time_s, stride=1, stride_s=0.01)
    assert windows.target.tolist() == list(range(319))


def test_no_clip_no_causal_window():
    assert len(causal_windows(np.array([0]), np.zeros(0), stride=5)) == 0


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(1, 9), st.data())
def test_causal_windows_look_back_within_their_clip_only(lengths, stride, data):
    steps = st.lists(st.floats(0.01, 2.0), min_size=sum(lengths), max_size=sum(lengths))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    time_s = np.array(data.draw(steps))
    for start, stop in pairwise(offsets):
        time_s[start:stop] = np.cumsum(time_s[start:stop])
    clip_of = np.repeat(np.arange(len(lengths)), lengths)
    windows = causal_windows(offsets, time_s, stride=stride)
    rows = windows.rows(np.arange(len(windows)))["visual"]
    for target, index, real in zip(windows.target, rows.index, rows.real, strict=True):
        assert (clip_of[index] == clip_of[target]).all()
        assert index[-1] == target
        assert real[-1]
        assert (np.diff(index) >= 0).all()
        at_s = time_s[target] - SPAN_S / N_VISUAL * np.arange(N_VISUAL - 1, -1, -1)
        assert (time_s[index[real]] <= at_s[real] + 1e-5).all()
        assert (at_s[~real] < time_s[offsets[clip_of[target]]] + 1e-5).all()
    if stride == 1:
        assert windows.target.tolist() == list(range(sum(lengths)))


def test_a_row_at_the_very_time_is_on_show_whatever_its_last_digit():
    # 20 rows a second: the 20 times, half a second apart, are those of every tenth row. Of sums
    # of 0.05 s some come out a last digit late.
    time_s = 0.1 + 0.05 * np.arange(400)
    windows = causal_windows(np.array([0, 400]), time_s, stride=1)
    targets = np.arange(190, 400)
    rows = windows.rows(targets)["visual"]
    np.testing.assert_array_equal(rows.index, targets[:, None] - 10 * np.arange(19, -1, -1))
    assert rows.real.all()
