import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from features.maintenance.statistics.moments import RowStatistics

ROWS = arrays(
    np.float16,
    st.tuples(st.integers(0, 40), st.just(3)),
    elements=st.floats(-60_000, 60_000, width=16),
)
CUTS = st.lists(st.integers(0, 40), max_size=5)


def test_moments_by_hand():
    # 1 and 3: mean 2, squares 1 + 1, deviation sqrt(2 / 2); the second dimension is dead
    found = RowStatistics.of(np.array([[1, -2], [3, -2]], np.float16))
    assert found.n == 2
    assert found.mean.tolist() == [2, -2]
    assert found.squares.tolist() == [2, 0]
    assert found.std.tolist() == [1, 0]
    assert found.low.tolist() == [1, -2]
    assert found.high.tolist() == [3, -2]
    assert found.dead == (1,)


def test_a_dimension_is_dead_only_if_two_rows_have_the_same_value():
    one_row = RowStatistics.of(np.ones((1, 2), np.float16))
    assert one_row.dead == ()
    assert (one_row + one_row).dead == (0, 1)


def test_adding_no_rows_changes_nothing():
    some, none = RowStatistics.of(np.array([[1], [5]], np.float16)), RowStatistics.none(1)
    for found in (some + none, none + some):
        assert [found.n, found.mean, found.squares, found.low, found.high] == [2, 3, 8, 1, 5]
    assert (none + none).n == 0
    assert none.std == 0


@given(ROWS, CUTS, st.randoms(use_true_random=False))
def test_the_order_and_the_division_of_rows_change_nothing(rows, cuts, random):
    total = RowStatistics.none(3)
    shuffled = rows[random.sample(range(len(rows)), len(rows))]
    for part in np.split(shuffled, sorted(min(cut, len(rows)) for cut in cuts)):
        total += RowStatistics.of(part)
    assert total.n == len(rows)
    if total.n:
        exact = rows.astype(np.float64)
        np.testing.assert_allclose(total.mean, exact.mean(0), rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(total.std, exact.std(0), rtol=1e-9, atol=1e-6)
        np.testing.assert_array_equal(total.low, exact.min(0))
        np.testing.assert_array_equal(total.high, exact.max(0))


def test_a_narrow_dimension_far_from_zero_keeps_its_digits():
    # 1000 and 1000.5 alternate: deviation 1/4, while the sum of a million squares is 1e12
    rows = (1000 + 0.5 * (np.arange(1_000_000) % 2)).astype(np.float16)[:, None]
    total = RowStatistics.none(1)
    for part in np.split(rows, 100):
        total += RowStatistics.of(part)
    assert total.std[0] == pytest.approx(0.25, rel=1e-12)
