import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.intervals import _middle, resampled, score_intervals
from models.metrics import Concordance
from models.prediction import VaConcordance

PEOPLE = st.lists(
    arrays(np.float64, st.tuples(st.integers(1, 12), st.just(2)), elements=st.floats(-1, 1)),
    min_size=1,
    max_size=5,
)


def of(pairs) -> Concordance:
    pairs = np.asarray(pairs, dtype=np.float64)
    return Concordance.of(pairs[:, 0], pairs[:, 1])


def both(pairs) -> VaConcordance:
    return VaConcordance(of(pairs), of(pairs))


@given(PEOPLE, st.data())
def test_a_resample_scores_as_the_added_sums_do(people, data):
    times = data.draw(
        st.lists(st.integers(0, 4), min_size=len(people), max_size=len(people)).filter(any)
    )
    sums = [of(pairs) for pairs in people]
    rows = np.concatenate([pairs for pairs, k in zip(people, times, strict=True) for _ in range(k)])
    if rows.var(axis=0).min() < 1e-6:
        return
    added = sum(
        (each for each, k in zip(sums, times, strict=True) for _ in range(k)), start=Concordance()
    )
    (found,) = resampled(sums, np.array([times], dtype=np.float64))
    assert found == pytest.approx(added.ccc(), abs=1e-8)
    assert found == pytest.approx(of(rows).ccc(), abs=1e-8)


def test_a_resample_of_people_who_do_not_vary_scores_zero():
    # -.6 has no exact binary form: without a floor, what rounding leaves of the variance of these
    # two people gives a CCC of 1.6
    people = [
        of([(-0.6, -0.6)] * 3),
        of([(-0.6, -0.6)] * 11),
        of([(0, 0), (0.5, 0.4), (0.3, -0.7)]),
    ]
    assert resampled(people, np.array([[1.0, 1.0, 0.0]])) == 0


def test_two_people_give_an_interval_by_hand():
    # drawn with replacement: twice the first (1/4), both (1/2), twice the second (1/4). So the
    # lowest 2.5 % are the worse person alone, CCC -1, the highest 2.5 % the better, CCC 1.
    found = score_intervals([both([(0, 0), (1, 1)]), both([(0, 1), (1, 0)])])
    assert found is not None
    for each in (found.valence, found.arousal, found.mean):
        assert (each.low, each.high) == pytest.approx((-1, 1))


def test_an_interval_leaves_two_and_a_half_percent_beyond_each_end():
    scores = np.arange(1001.0)
    found = _middle(scores)
    assert (found.low, found.high) == pytest.approx((25, 975))


def test_equal_people_leave_no_doubt():
    found = score_intervals([both([(0, 1), (1, 2), (2, 3)])] * 7)
    assert found is not None
    assert (found.mean.low, found.mean.high) == pytest.approx((4 / 7, 4 / 7))


def test_fewer_than_two_people_with_rows_give_no_interval():
    nobody = VaConcordance(Concordance(), Concordance())
    assert score_intervals([]) is None
    assert score_intervals([both([(0, 0), (1, 1)]), nobody]) is None


def test_people_without_rows_change_nothing():
    nobody = VaConcordance(Concordance(), Concordance())
    people = [both([(0, k / 5), (1, 1)]) for k in range(5)]
    assert score_intervals([*people, nobody]) == score_intervals(people)


def test_the_mean_is_taken_draw_by_draw():
    # valence and arousal go against each other: in every draw their mean is 0
    one, other = of([(0, 0), (1, 1)]), of([(0, 1), (1, 0)])
    found = score_intervals([VaConcordance(one, other), VaConcordance(one, other)])
    assert found is not None
    assert (found.mean.low, found.mean.high) == pytest.approx((0, 0))
    assert (found.valence.low, found.arousal.high) == pytest.approx((1, -1))


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    # people share a slope and differ in their noise; the CCC of endless people is that of many
    truth = rng.uniform(-1, 1, (4000, 20))
    predicted = 0.7 * truth + rng.normal(0, 0.2, truth.shape) + rng.normal(0, 0.1, (4000, 1))
    endless = Concordance.of(truth.ravel(), predicted.ravel()).ccc()
    held = 0
    for k in range(100):
        sums = [Concordance.of(truth[i], predicted[i]) for i in range(40 * k, 40 * k + 40)]
        found = score_intervals([VaConcordance(each, each) for each in sums])
        assert found is not None
        held += found.mean.low <= endless <= found.mean.high
    assert 88 <= held <= 99  # of 100; 95 is expected
