import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.report.timeline import kept_rows, stretches

COURSES = arrays(
    np.float64,
    st.integers(1, 400),
    elements=st.one_of(st.floats(-1, 1), st.just(float("nan"))),
)


@given(COURSES, st.integers(1, 20))
def test_extremes_gaps_and_ends_stay(values, buckets):
    rows = kept_rows(values, buckets)
    assert np.all(np.diff(rows) > 0)
    assert len(rows) <= 3 * buckets + 2
    assert rows[0] == 0
    assert rows[-1] == len(values) - 1
    kept = values[rows]
    assert np.isnan(kept).any() == np.isnan(values).any()
    if not np.isnan(values).all():
        assert np.nanmax(kept) == np.nanmax(values)
        assert np.nanmin(kept) == np.nanmin(values)


def test_a_short_course_stays_as_it_is():
    assert kept_rows(np.zeros(6), buckets=3).tolist() == [0, 1, 2, 3, 4, 5]


def test_rows_by_hand():
    # 12 rows in 2 buckets of 6: the lowest and the highest of each, and both ends
    values = np.array([0.0, 0.1, 0.9, 0.2, -0.8, 0.0, 0.3, 0.3, 0.5, 0.2, 0.3, 0.3])
    assert kept_rows(values, buckets=2).tolist() == [0, 2, 4, 8, 9, 11]


def test_a_spike_of_one_row_is_drawn_wherever_it_is():
    for at in range(0, 5000, 37):
        values = np.zeros(5000)
        values[at] = 1
        assert at in kept_rows(values)


def test_a_gap_of_one_row_is_drawn_wherever_it_is():
    for at in range(0, 5000, 37):
        values = np.zeros(5000)
        values[at] = np.nan
        assert at in kept_rows(values)


def test_stretches_last_until_the_next_row():
    # rows at 0, 1, 3, 4 s: the second lasts until 3 s, the last for the median step of 1 s
    time_s = np.array([0.0, 1.0, 3.0, 4.0])
    assert stretches(np.array([False, True, False, True]), time_s) == [(1, 3), (4, 5)]
    assert stretches(np.array([True, True, True, True]), time_s) == [(0, 5)]
    assert stretches(np.array([False] * 4), time_s) == []
