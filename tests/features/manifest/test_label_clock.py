"""Labels at rows and predictions at labels, against the rule of the module row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.manifest.label_clock import GAP_S, GAP_STEPS, labels_at_rows, predictions_at_labels
from features.manifest.labels import ROUNDING_S, Labels

ROWS_S = np.arange(0, 4, 0.5)  # of a clip that starts at 0


def ratings(time_s, valence, valid=None, **fields) -> Labels:
    valence = np.asarray(valence, dtype=np.float64)
    valid = np.ones(len(valence), bool) if valid is None else np.asarray(valid)
    va = np.where(valid[:, None], np.stack([valence, -valence], axis=1), 0.0)
    return Labels(va, valid, np.asarray(time_s, dtype=np.float64), **fields)


@st.composite
def series(draw, *, spans: bool = False) -> Labels:
    steps = draw(st.lists(st.sampled_from([0.1, 0.25, 0.4, 2.5]), min_size=1, max_size=12))
    n = len(steps)
    time_s = draw(st.sampled_from([-0.3, 0.0, 0.7])) + np.cumsum(steps)
    valence = draw(st.lists(st.floats(-1, 1), min_size=n, max_size=n))
    valid = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    ends = {}
    if spans:
        share = np.array(draw(st.lists(st.sampled_from([0.3, 1.0]), min_size=n, max_size=n)))
        ends["end_s"] = time_s + share * np.append(np.diff(time_s), 0.5)
    lag_s = draw(st.sampled_from([0.0, 0.35, 2.0]))
    return ratings(time_s, valence, valid, lag_s=lag_s, **ends)


def rows(draw_steps: list[float]) -> np.ndarray:
    return np.cumsum([0.0, *draw_steps])


ROW_STEPS = st.lists(st.sampled_from([0.04, 0.1, 0.33]), min_size=1, max_size=40)


def by_rule(labels: Labels, at_s: float) -> float | None:
    """The valence at one row, as the docstring of the module has it; None if not valid."""
    own_s = labels.time_s - labels.lag_s
    for k in np.flatnonzero(labels.valid):
        if abs(own_s[k] - at_s) < 1e-9:
            return labels.va[k, 0]
    step_s = np.median(np.diff(own_s)) if len(own_s) > 1 else 0.04
    before = max((k for k in range(len(own_s)) if own_s[k] <= at_s), default=None)
    after = min((k for k in range(len(own_s)) if own_s[k] >= at_s), default=None)
    if before is not None and after is not None and labels.valid[[before, after]].all():
        width = own_s[after] - own_s[before]
        if not (width > GAP_STEPS * step_s and width > GAP_S):
            share = (at_s - own_s[before]) / width if width else 0
            return labels.va[before, 0] + share * (labels.va[after, 0] - labels.va[before, 0])
    sides = [k for k in (before, after) if k is not None]
    nearest = min(sides, key=lambda k: abs(own_s[k] - at_s))
    is_near = abs(own_s[nearest] - at_s) <= step_s / 2 + 1e-6
    return labels.va[nearest, 0] if is_near and labels.valid[nearest] else None


@given(labels=series(), steps=ROW_STEPS, start_s=st.sampled_from([0.0, -3.0, 1024.0]))
def test_ratings_are_brought_to_rows_by_the_rule(labels, steps, start_s):
    at_s = rows(steps)
    found = labels_at_rows(labels, at_s + start_s, start_s)
    for k, row_s in enumerate(at_s):
        own_s = labels.time_s - labels.lag_s
        ties = np.sort(np.abs(own_s - row_s))[:2]
        if len(ties) > 1 and ties[1] - ties[0] < 1e-9:
            continue  # halfway between two: either may be the nearest
        expected = by_rule(labels, row_s)
        assert found.valid[k] == (expected is not None), (row_s, own_s)
        if expected is not None:
            np.testing.assert_allclose(found.va[k], [expected, -expected], atol=1e-9)
    assert not found.va[~found.valid].any()


@given(labels=series(spans=True), steps=ROW_STEPS)
def test_the_value_of_a_span_holds_within_it_and_nowhere_else(labels, steps):
    at_s = rows(steps)
    found = labels_at_rows(labels, at_s, 0.0)
    starts, ends = labels.time_s - labels.lag_s, labels.end_s - labels.lag_s
    for k, row_s in enumerate(at_s):
        # of two spans that share a moment by rounding, the later one
        reached_s = row_s + ROUNDING_S
        inside = [i for i in range(len(starts)) if starts[i] <= reached_s < ends[i]][-1:]
        assert found.valid[k] == any(labels.valid[i] for i in inside)
        if found.valid[k]:
            np.testing.assert_array_equal(found.va[k], labels.va[inside[0]])


def test_a_row_at_the_start_of_a_span_is_in_it_whatever_rounding_does_to_its_time():
    spans = ratings([0.1, 0.3], [0.2, 0.8], end_s=np.array([0.3, 0.5]))
    at_s = np.array([0.1, 0.2, 0.3, 0.4]) + 512.0  # 512.3 - 512 is below 0.3
    assert at_s[2] - 512 < 0.3
    np.testing.assert_array_equal(labels_at_rows(spans, at_s, 512.0).va[:, 0], [0.2, 0.2, 0.8, 0.8])
    va = np.stack([[0.0, 0.1, 0.5, 0.7]] * 2, axis=1)
    found, _ = predictions_at_labels(spans, at_s, va, 512.0)
    np.testing.assert_allclose(found[:, 0], [0.05, 0.6])


def test_the_end_of_a_span_is_not_part_of_it():
    found = labels_at_rows(ratings([0.5], [1], end_s=np.array([1.5])), ROWS_S, 0.0)
    np.testing.assert_array_equal(found.va[:, 0], [0, 1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(found.valid, found.va[:, 0] > 0)


@given(labels=st.one_of(series(), series(spans=True)), steps=ROW_STEPS)
def test_a_lag_is_the_same_as_earlier_times(labels, steps):
    at_s = rows(steps)
    ends = None if labels.end_s is None else labels.end_s - labels.lag_s
    moved = Labels(labels.va, labels.valid, labels.time_s - labels.lag_s, ends)
    lagged, earlier = (labels_at_rows(each, at_s, 0.0) for each in (labels, moved))
    np.testing.assert_array_equal(lagged.valid, earlier.valid)
    np.testing.assert_array_equal(lagged.va, earlier.va)


def test_ratings_are_interpolated_and_held_for_half_a_step_at_the_ends():
    labels = ratings([1, 2, 3], [0.0, 1.0, 0.0])
    found = labels_at_rows(labels, ROWS_S, 0.0)  # 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5
    np.testing.assert_array_equal(found.valid, [False, True, True, True, True, True, True, True])
    np.testing.assert_allclose(found.va[:, 0], [0, 0, 0, 0.5, 1, 0.5, 0, 0])
    assert found.is_per_frame


def test_a_gap_is_wider_than_three_steps_and_than_a_second():
    fast = ratings([0, 0.1, 0.2, 1.1, 1.2], [0, 0, 0, 0.9, 0.9])  # 0.9 s: no gap
    np.testing.assert_allclose(labels_at_rows(fast, np.array([0.5]), 0.0).va[:, 0], [0.3])
    slow = ratings([0, 1, 2, 6, 7], [0, 0, 0.2, 0.4, 0.4])  # 4 s at a step of 1 s: a gap
    found = labels_at_rows(slow, np.array([2.5, 3.0, 5.4, 5.5]), 0.0)
    np.testing.assert_array_equal(found.valid, [True, False, False, True])
    np.testing.assert_allclose(found.va[:, 0], [0.2, 0, 0, 0.4])


def test_a_row_beside_a_rating_that_is_not_valid_has_the_nearest_one():
    labels = ratings([0, 1, 2], [0.5, 0.0, 0.7], [True, False, True])
    found = labels_at_rows(labels, np.array([0.4, 0.6, 1.0, 1.6]), 0.0)
    np.testing.assert_array_equal(found.valid, [True, False, False, True])
    np.testing.assert_allclose(found.va[:, 0], [0.5, 0, 0, 0.7])


def test_labels_per_frame_are_those_of_the_rows_unless_raters_lag():
    labels = Labels(np.array([[0.1, 0], [0.3, 0], [0.5, 0]]), np.array([True, True, True]))
    at_s = np.array([7.0, 7.5, 8.0])
    assert labels_at_rows(labels, at_s, 7.0) is labels
    lagged = Labels(labels.va, labels.valid, lag_s=0.5)
    found = labels_at_rows(lagged, at_s, 7.0)
    # frame k has the label of frame k + 1; the last has none that is half a frame away or nearer
    np.testing.assert_allclose(found.va[:, 0], [0.3, 0.5, 0.0])
    np.testing.assert_array_equal(found.valid, [True, True, False])
    for each in (labels, lagged):
        with pytest.raises(ValueError, match="3 labels without times for 2 rows"):
            labels_at_rows(each, at_s[:2], 7.0)
        with pytest.raises(ValueError, match="3 labels without times for 2 rows"):
            predictions_at_labels(each, at_s[:2], np.zeros((2, 2)), 7.0)


@given(
    labels=st.one_of(series(), series(spans=True)),
    steps=ROW_STEPS,
    slope=st.floats(-0.1, 0.1),
    start_s=st.sampled_from([0.0, 512.0]),
)
def test_a_prediction_that_is_linear_in_time_is_read_at_the_labels_own_times(
    labels, steps, slope, start_s
):
    at_s = rows(steps)
    va = np.stack([slope * at_s, 1 - slope * at_s], axis=1)
    found, valid = predictions_at_labels(labels, at_s + start_s, va, start_s)
    own_s = labels.time_s - labels.lag_s
    ends = own_s if labels.end_s is None else labels.end_s - labels.lag_s
    for k in range(len(own_s)):
        reached_s = at_s + ROUNDING_S
        within = at_s[(reached_s >= own_s[k]) & (reached_s < ends[k])]
        middle = within.mean() if len(within) else (own_s[k] + ends[k]) / 2
        inside = at_s[0] <= middle <= at_s[-1]
        outside = max(at_s[0] - middle, middle - at_s[-1])
        margin = np.median(np.diff(at_s)) / 2
        if abs(outside - margin) > 1e-5:  # not at the edge itself
            assert valid[k] == (labels.valid[k] and (inside or outside < margin))
        if valid[k]:
            at = np.clip(middle, at_s[0], at_s[-1])
            np.testing.assert_allclose(found[k], [slope * at, 1 - slope * at], atol=1e-9)
        else:
            assert not found[k].any()


def test_predictions_for_labels_per_frame_are_the_rows_themselves():
    labels = Labels(np.zeros((3, 2)), np.array([True, False, True]))
    va = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    found, valid = predictions_at_labels(labels, np.arange(3.0), va, 0.0)
    np.testing.assert_array_equal(found, [[0.1, 0.2], [0, 0], [0.5, 0.6]])
    np.testing.assert_array_equal(valid, labels.valid)


def test_a_prediction_over_a_span_is_the_mean_of_its_rows():
    labels = ratings([0, 1, 9], [0.1, 0.2, 0.3], end_s=np.array([1.0, 1.1, 10.0]))
    va = np.stack([ROWS_S, -ROWS_S], axis=1)
    found, valid = predictions_at_labels(labels, ROWS_S, va, 0.0)
    # rows 0 and 0.5; the row at 1; nothing at 9 s
    np.testing.assert_allclose(found[:, 0], [0.25, 1.0, 0.0])
    np.testing.assert_array_equal(valid, [True, True, False])
    short = ratings([1.1], [0.1], end_s=np.array([1.3]))  # between two rows
    np.testing.assert_allclose(predictions_at_labels(short, ROWS_S, va, 0.0)[0][0], [1.2, -1.2])


@given(labels=series())
def test_labels_brought_to_their_own_times_and_back_are_the_same(labels):
    own_s = labels.time_s - labels.lag_s
    there = labels_at_rows(labels, own_s, 0.0)
    np.testing.assert_array_equal(there.valid, labels.valid)
    back, valid = predictions_at_labels(labels, own_s, there.va, 0.0)
    np.testing.assert_array_equal(valid, labels.valid)
    np.testing.assert_allclose(back, labels.va, atol=1e-9)
