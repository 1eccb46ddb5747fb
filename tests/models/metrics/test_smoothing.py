import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.data.packed import PackedFeatures
from models.metrics.ccc import Concordance, VaConcordance
from models.metrics.predict import Prediction, concordance
from models.metrics.smoothing import (
    WINDOWS_S,
    SmoothingWindows,
    added,
    choose_windows,
    moving_mean,
    smooth,
    sums_by_window,
)
from tests.helpers.two_streams import packed_streams


def bank_of(time_s, lengths, va=None) -> PackedFeatures:
    n = len(time_s)
    yes, nothing = torch.ones(n, dtype=torch.bool), torch.zeros(n, 1, dtype=torch.float16)
    return PackedFeatures(
        tuple(f"c{k}" for k in range(len(lengths))),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.asarray(time_s, dtype=np.float64),
        streams=packed_streams(nothing, yes, nothing, yes),
        va=torch.from_numpy(np.zeros((n, 2)) if va is None else va),
        va_valid=yes.clone(),
    )


def prediction_of(va) -> Prediction:
    va = np.asarray(va, dtype=np.float64)
    return Prediction(va, np.arange(len(va)) % 3 == 0)


def test_the_moving_mean_by_hand():
    # a row a tenth of a second; .2 s wide: the row, one before and one after; two at the ends
    values = np.array([0.0, 0.3, 0.6, 0.0])
    found = moving_mean(values, 0.1 * np.arange(4), 0.2)
    np.testing.assert_allclose(found, [0.15, 0.3, 0.3, 0.3], atol=1e-12)


def test_time_and_not_rows_make_the_width():
    # rows at 0, .1, .2 and 1 s: the last is alone within half a second
    values = np.array([0.0, 0.3, 0.6, 0.9])
    found = moving_mean(values, np.array([0.0, 0.1, 0.2, 1.0]), 1.0)
    np.testing.assert_allclose(found, [0.3, 0.3, 0.3, 0.9], atol=1e-12)


@given(
    st.lists(st.tuples(st.floats(0.001, 0.7), st.floats(-1, 1)), min_size=1, max_size=40),
    st.floats(0, 9),
)
def test_the_moving_mean_against_a_slow_loop(rows, width_s):
    time_s, values = np.cumsum([step for step, _ in rows]), np.array([value for _, value in rows])
    expected = [
        np.mean(
            [v for t, v in zip(time_s, values, strict=True) if abs(t - at) <= width_s / 2 + 1e-6]
        )
        for at in time_s
    ]
    np.testing.assert_allclose(moving_mean(values, time_s, width_s), expected, atol=1e-9)


def test_each_dimension_has_its_width_and_no_clip_tells_of_another():
    va = np.array([[0.0, 0.0], [0.6, 0.6], [-1.0, -1.0], [-1.0, 0.0]])
    bank = bank_of([0.0, 0.1, 0.0, 0.1], [2, 2])
    before = prediction_of(va)
    found = smooth(before, bank, SmoothingWindows(valence=0.2, arousal=0.0))
    np.testing.assert_allclose(found.va[:, 0], [0.3, 0.3, -1, -1])
    assert (found.va[:, 1] == va[:, 1]).all()
    other = smooth(before, bank, SmoothingWindows(valence=0.0, arousal=8.0))
    np.testing.assert_allclose(other.va[:, 1], [0.3, 0.3, -0.5, -0.5])
    assert (other.va[:, 0] == va[:, 0]).all()
    assert (before.va == va).all()
    assert (found.interpolated == before.interpolated).all()


def test_width_0_changes_no_digit():
    va = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    found = smooth(prediction_of(va), bank_of(0.04 * np.arange(50), [50]), SmoothingWindows())
    assert (found.va == va).all()


def test_what_is_smoothed_stays_within_its_range():
    va = np.random.default_rng(0).choice([-1.0, 1.0, 0.1], (3000, 2), p=[0.1, 0.8, 0.1])
    va[500:] = 1.0
    found = smooth(
        prediction_of(va), bank_of(0.04 * np.arange(3000), [3000]), SmoothingWindows(1.0, 1.0)
    )
    assert np.abs(found.va).max() <= 1


def noisy(seed=0, n=600) -> tuple[Prediction, PackedFeatures]:
    """Valence predicted with noise from row to row, arousal without any; two clips."""
    rng = np.random.default_rng(seed)
    time_s = np.tile(0.04 * np.arange(n // 2), 2)
    truth = np.stack([0.7 * np.sin(2 * np.pi * time_s / 9), 0.7 * np.cos(time_s)], axis=1)
    predicted = truth + np.stack([rng.normal(0, 0.3, n), np.zeros(n)], axis=1)
    return prediction_of(predicted), bank_of(time_s, [n // 2, n // 2], truth)


def test_noise_is_smoothed_and_what_has_none_is_left():
    prediction, bank = noisy()
    widths = choose_windows(sums_by_window(prediction, bank))
    assert widths.arousal == 0
    assert 0.4 < widths.valence < 3
    scores = {
        width_s: concordance(
            smooth(prediction, bank, SmoothingWindows(width_s, 0.0)), bank
        ).valence.ccc()
        for width_s in WINDOWS_S
    }
    assert scores[widths.valence] == max(scores.values())


def test_of_equal_widths_the_smallest_is_chosen():
    rng = np.random.default_rng(0)
    pairs = [Concordance.of(*rng.uniform(-1, 1, (2, 9))) for _ in range(3)]
    low, mid, high = sorted(pairs, key=lambda pair: pair.ccc())
    sums = {
        2.0: VaConcordance(high, high),
        1.0: VaConcordance(high, mid),
        0.0: VaConcordance(low, mid),
    }
    assert choose_windows(sums) == SmoothingWindows(1.0, 2.0)
    constant = {width_s: VaConcordance(low, low) for width_s in reversed(WINDOWS_S)}
    assert choose_windows(constant) == SmoothingWindows(0.0, 0.0)


def test_sums_of_parts_are_those_of_the_whole():
    prediction, bank = noisy()
    parts = []
    for clip_id, span in bank.spans():
        part = Prediction(prediction.va[span], prediction.interpolated[span])
        parts.append(sums_by_window(part, bank.select([clip_id])))
    together, whole = added(parts), sums_by_window(prediction, bank)
    assert tuple(together) == tuple(whole) == WINDOWS_S
    for width_s in WINDOWS_S:
        assert together[width_s].valence.ccc() == pytest.approx(whole[width_s].valence.ccc())
        assert together[width_s].arousal.n == whole[width_s].arousal.n


def test_the_grid_begins_with_none_and_goes_up():
    assert WINDOWS_S[0] == 0
    assert list(WINDOWS_S) == sorted(set(WINDOWS_S))
