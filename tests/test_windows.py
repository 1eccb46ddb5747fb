import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.windows import dense_windows


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
