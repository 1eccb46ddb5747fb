import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import bootstrap

from models.metrics.ccc import Concordance, VaConcordance
from models.metrics.intervals import (
    FEW_SUBJECTS,
    RESAMPLES,
    SEED,
    Estimate,
    ScoreEstimates,
    _estimate,
    bca_interval,
    holm,
    interval_over_seeds,
    paired_difference,
    resample,
    score_intervals,
    two_sided_p,
)

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
    (found,) = resample(sums, np.array([times], dtype=np.float64))
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
    assert resample(people, np.array([[1.0, 1.0, 0.0]])) == 0


def test_two_people_give_an_interval_by_hand():
    # drawn with replacement: twice the first (1/4), both (1/2), twice the second (1/4). So the
    # lowest 2.5 % are the worse person alone, CCC -1, the highest 2.5 % the better, CCC 1.
    found = score_intervals([both([(0, 0), (1, 1)]), both([(0, 1), (1, 0)])])
    assert found is not None
    for each in (found.valence, found.arousal, found.mean):
        assert (each.low, each.high) == pytest.approx((-1, 1))


def test_an_interval_leaves_two_and_a_half_percent_beyond_each_end():
    scores = np.arange(1001.0)
    found = _estimate(500.0, scores)
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


def models(seed: int, n: int = 9) -> tuple[list[VaConcordance], list[VaConcordance]]:
    """The sums of n people by two models; the labels are the same."""
    rng = np.random.default_rng(seed)
    found: tuple[list[VaConcordance], list[VaConcordance]] = ([], [])
    for _ in range(n):
        truth = rng.uniform(-1, 1, (rng.integers(5, 30), 2))
        for model, noise in zip(found, (0.2, 0.5), strict=True):
            said = truth + rng.normal(0, noise, truth.shape)
            model.append(
                VaConcordance(*(Concordance.of(truth[:, k], said[:, k]) for k in range(2)))
            )
    return found


def three(found: ScoreEstimates) -> list[Estimate]:
    return [found.valence, found.arousal, found.mean]


def test_a_difference_of_two_people_by_hand():
    # a is right about the first person (CCC 1) and upside down about the second (-1); b is right
    # about both. Twice the first (1/4): 1 - 1; twice the second (1/4): -1 - 1; all four rows of a:
    # truth 0 1 1 0, said 0 1 0 1: covariance 0, so 0 - 1.
    right, left = both([(0, 0), (1, 1)]), both([(1, 1), (0, 0)])
    found = paired_difference([right, both([(1, 0), (0, 1)])], [right, left])
    assert found is not None
    for each in three(found):
        assert (each.value, each.low, each.high) == pytest.approx((-1, -2, 0))


def test_a_difference_is_drawn_from_the_same_people_by_a_slower_way():
    a, b = models(3)
    found = paired_difference(a, b)
    assert found is not None
    counts = np.random.default_rng(SEED).multinomial(9, np.full(9, 1 / 9), size=RESAMPLES)

    def slow(people, times):
        sums = [each for each, k in zip(people, times, strict=True) for _ in range(k)]
        whole = sum(sums[1:], start=sums[0])
        pair = whole.valence.ccc(), whole.arousal.ccc()
        return np.array([*pair, sum(pair) / 2])

    apart = np.array([slow(a, times) - slow(b, times) for times in counts])
    value = slow(a, [1] * 9) - slow(b, [1] * 9)
    for k, each in enumerate(three(found)):
        low, high = np.quantile(apart[:, k], [0.025, 0.975])
        assert (each.value, each.low, each.high) == pytest.approx((value[k], low, high), abs=1e-9)


def test_a_model_does_not_differ_from_itself():
    a, _ = models(0)
    found = paired_difference(a, list(a))
    assert found is not None
    assert all((each.value, each.low, each.high) == (0, 0, 0) for each in three(found))


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_a_difference_turns_about_with_its_models(seed, n):
    a, b = models(seed, n)
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert one is not None
    assert other is not None
    for x, y in zip(three(one), three(other), strict=True):
        assert (x.value, x.low, x.high) == pytest.approx((-y.value, -y.high, -y.low), abs=1e-12)


def test_a_difference_is_surer_than_two_scores_where_people_are_hard_for_both():
    rng = np.random.default_rng(0)
    a, b = [], []
    for noise in rng.uniform(0, 1, 12):  # a person is easy or hard, for both models alike
        truth = rng.uniform(-1, 1, 50)
        said = truth + noise * rng.standard_normal(50)
        for model, slip in ((a, 0.0), (b, 0.2)):
            sums = Concordance.of(truth, said + slip)
            model.append(VaConcordance(sums, sums))
    found, alone = paired_difference(a, b), score_intervals(a)
    assert found is not None
    assert alone is not None
    assert found.mean.high - found.mean.low < (alone.mean.high - alone.mean.low) / 3
    assert found.mean.low > 0  # a is better, though by less than either score is sure of


def test_the_bca_interval_is_that_of_scipy():
    people = [each.valence for each in models(4, n=11)[1]]

    def statistic(drawn):
        counts = np.bincount(drawn, minlength=len(people)).astype(np.float64)
        return resample(people, counts[None])[0]

    theirs = bootstrap(
        (np.arange(len(people)),),
        statistic,
        vectorized=False,
        n_resamples=500,
        method="BCa",
        random_state=np.random.default_rng(0),
    )
    without_one = resample(people, 1 - np.eye(len(people)))
    whole = resample(people, np.ones((1, len(people))))[0]

    low, high = bca_interval(whole, theirs.bootstrap_distribution, without_one)

    expected = theirs.confidence_interval
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    plain = np.quantile(theirs.bootstrap_distribution, [0.025, 0.975])
    assert abs(low - plain[0]) > 1e-3  # it is not the percentile interval


def test_few_people_have_a_bca_interval_and_many_have_none():
    for n in (FEW_SUBJECTS - 1, FEW_SUBJECTS):
        a, b = models(6, n)
        for found in (score_intervals(a), paired_difference(a, b)):
            assert found is not None
            for each in three(found):
                assert (each.bca is not None) == (n < FEW_SUBJECTS)
    few, _ = models(6, FEW_SUBJECTS - 1)
    valence = [each.valence for each in few]
    counts = np.random.default_rng(SEED).multinomial(
        len(few), np.full(len(few), 1 / len(few)), size=RESAMPLES
    )
    drawn = resample(valence, counts.astype(np.float64))
    found = score_intervals(few)
    assert found is not None
    expected = bca_interval(found.valence.value, drawn, resample(valence, 1 - np.eye(len(few))))
    assert found.valence.bca == pytest.approx(expected)


def test_a_bca_interval_that_cannot_be_moved_is_that_of_percentiles():
    drawn = np.arange(1001.0)
    jackknife = np.array([1.0, 2.0, 4.0])
    assert bca_interval(-1.0, drawn, jackknife) == pytest.approx((25, 975))
    assert bca_interval(2000.0, drawn, jackknife) == pytest.approx((25, 975))
    assert bca_interval(500.0, drawn, np.ones(3)) == pytest.approx((25, 975))


def test_a_p_value_by_hand():
    # 100 resamples, 3 of them at or below zero: twice (3 + 1) of 101
    assert two_sided_p(np.array([-1.0, -0.5, 0.0, *[1.0] * 97])) == pytest.approx(8 / 101)
    assert two_sided_p(np.array([*[-1.0] * 97, 0.0, 0.5, 1.0])) == pytest.approx(8 / 101)
    assert two_sided_p(np.zeros(100)) == 1
    assert two_sided_p(np.ones(100)) == pytest.approx(2 / 101)


def test_a_difference_has_a_p_value_and_a_score_has_none():
    a, b = models(3)
    found, alone = paired_difference(a, b), score_intervals(a)
    assert found is not None
    assert alone is not None
    assert all(each.p_value is None for each in three(alone))
    assert found.mean.p_value == pytest.approx(2 / (RESAMPLES + 1))  # b has more noise by far
    turned = paired_difference(b, a)
    assert turned is not None
    assert [each.p_value for each in three(turned)] == [each.p_value for each in three(found)]


def test_p_values_are_about_as_small_as_they_say_if_nothing_differs():
    rng = np.random.default_rng(2)
    n_small = 0
    for _ in range(100):
        truth = rng.uniform(-1, 1, (40, 10))
        a, b = (
            [VaConcordance(each, each) for each in map(Concordance.of, truth, said)]
            for said in (truth + rng.normal(0, 0.3, truth.shape) for _ in range(2))
        )
        found = paired_difference(a, b)
        assert found is not None
        n_small += found.mean.p_value < 0.05
    assert 1 <= n_small <= 12  # of 100; 5 are expected


def test_holm_by_hand():
    # sorted: .01 x 4, .02 x 3, .03 x 2 (not below the one before), .04 x 1 (not below .06)
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.001]) == [0.001]
    assert holm([]) == []


def test_people_without_rows_and_too_few_people_leave_no_difference():
    nobody = VaConcordance(Concordance(), Concordance())
    a, b = models(1)
    assert paired_difference([*a, nobody], [*b, nobody]) == paired_difference(a, b)
    assert paired_difference([], []) is None
    assert paired_difference([a[0], nobody], [b[0], nobody]) is None


def test_people_that_are_not_the_same_cannot_be_paired():
    a, b = models(2)
    with pytest.raises(ValueError, match="9 subjects cannot be paired with 8"):
        paired_difference(a, b[:8])
    with pytest.raises(ValueError, match="subjects at place 0 do not have the same labels"):
        paired_difference(a, [b[1], b[0], *b[2:]])
    # the same number of rows, and the same mean
    one, other = both([(0, 0), (1, 1)]), both([(0.25, 0), (0.75, 1)])
    with pytest.raises(ValueError, match="place 1"):
        paired_difference([one, one], [one, other])
    with pytest.raises(ValueError, match="place 1"):
        paired_difference([one, one], [one, both([(0.5, 0), (1.5, 1)])])
    two, three_rows = both([(0.5, 0), (0.5, 1)]), both([(0.5, 0), (0.5, 1), (0.5, 1)])
    with pytest.raises(ValueError, match="place 1"):  # equal mean and squares
        paired_difference([one, two], [one, three_rows])
    mixed = VaConcordance(one.valence, other.arousal)
    with pytest.raises(ValueError, match="place 0"):
        paired_difference([mixed, one], [one, one])


def test_the_order_in_which_sums_were_added_leaves_the_labels_the_same():
    rng = np.random.default_rng(5)
    parts = [rng.uniform(-1, 1, (k, 2)) for k in (3, 40, 200, 7)]
    forth = sum((both(part) for part in parts[1:]), start=both(parts[0]))
    back = sum((both(part) for part in parts[-2::-1]), start=both(parts[-1]))
    assert forth != back
    found = paired_difference([forth, back], [back, forth])
    assert found is not None
    assert found.mean.value == pytest.approx(0, abs=1e-12)


def test_an_interval_over_three_seeds_by_hand():
    # mean .5, squares .01 + 0 + .01, sample deviation .1, t(.975, 2) = 4.302653 (tables)
    found = interval_over_seeds([0.4, 0.5, 0.6])
    assert found is not None
    half = 4.302653 * 0.1 / 3**0.5
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5 - half, 0.5 + half))


def test_one_seed_tells_nothing_of_others():
    assert interval_over_seeds([]) is None
    assert interval_over_seeds([0.5]) is None
    assert interval_over_seeds([0.5, 0.5]) == Estimate(0.5, 0.5, 0.5)
