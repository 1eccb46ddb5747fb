import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics.regression import ConcordanceCorrCoef

from models.metrics.ccc import Concordance

PAIRS = arrays(np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(-1, 1))


def of(pairs) -> Concordance:
    pairs = np.asarray(pairs, dtype=np.float64)
    return Concordance.of(pairs[:, 0], pairs[:, 1])


def ccc_by_loops(pairs: np.ndarray) -> float:
    """Lin's definition over all pairs of pairs: var = sum of squared differences / (2 n^2)."""
    n = len(pairs)
    both = apart = 0.0
    for a in pairs:
        for b in pairs:
            both += (a[0] - b[0]) * (a[1] - b[1]) / (2 * n**2)
            apart += ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (2 * n**2)
    shift = math.fsum(pairs[:, 0]) / n - math.fsum(pairs[:, 1]) / n
    return 2 * both / (apart + shift**2)


def test_ccc_by_hand():
    # truth 0 1 2, predicted 1 2 3: variances 2/3 each, covariance 2/3, means 1 and 2
    # 2 * 2/3 / (2/3 + 2/3 + 1) = 4/7; with unbiased moments it would be 2 / 3
    assert of([(0, 1), (1, 2), (2, 3)]).ccc() == pytest.approx(4 / 7)


def test_the_ends_of_the_scale():
    assert of([(0, 0), (1, 1)]).ccc() == pytest.approx(1)
    assert of([(0, 1), (1, 0)]).ccc() == pytest.approx(-1)


@given(PAIRS)
def test_ccc_equals_the_definition_by_loops(pairs):
    if min(pairs[:, 0].var(), pairs[:, 1].var()) > 1e-6:
        assert of(pairs).ccc() == pytest.approx(ccc_by_loops(pairs), abs=1e-9)


@given(PAIRS, st.lists(st.integers(0, 40), max_size=5), st.randoms(use_true_random=False))
def test_order_and_chunking_change_nothing(pairs, cuts, random):
    whole = of(pairs)
    shuffled = pairs[random.sample(range(len(pairs)), len(pairs))]
    total = Concordance()
    for part in np.split(shuffled, sorted(min(cut, len(pairs)) for cut in cuts)):
        total += of(part)
    assert total.n == whole.n
    assert total.squares_truth == pytest.approx(whole.squares_truth, abs=1e-12)
    assert total.products == pytest.approx(whole.products, abs=1e-12)
    if min(pairs[:, 0].var(), pairs[:, 1].var()) > 1e-6:
        assert total.ccc() == pytest.approx(whole.ccc(), abs=1e-9)


def test_a_narrow_series_far_from_zero_keeps_its_digits():
    rng = np.random.default_rng(0)
    pairs = rng.standard_normal((1000, 2)) @ [[1, 0.7], [0, 0.7]]
    near, far = of(pairs), of(pairs[:500] * 1e-6 + 1000) + of(pairs[500:] * 1e-6 + 1000)
    assert far.ccc() == pytest.approx(near.ccc(), abs=1e-3)  # plain sums of squares give noise


@pytest.mark.parametrize(
    "pairs",
    [
        [(0.3, 0.1), (0.3, 0.5)],
        [(0.1, 0.3), (0.5, 0.3)],
        [(0.3, 0.3), (0.3, 0.3)],
        [(0.1, 0.1)] * 3,
    ],
)
def test_what_is_constant_does_not_concord(pairs):
    assert of(pairs).ccc() == 0.0


def test_the_ccc_of_nothing_is_refused():
    with pytest.raises(ValueError, match="the CCC of no rows is undefined; is any row annotated"):
        Concordance().ccc()
    assert Concordance() + Concordance() == Concordance()


def test_agreement_by_hand():
    # truth 0 1 2, predicted 2 4 6: they go together, twice as wide, means 1 and 4
    found = of([(0, 2), (1, 4), (2, 6)]).agreement()
    assert found.correlation == pytest.approx(1)
    assert (found.mean_truth, found.mean_predicted) == (1, 4)
    assert found.std_truth**2 == pytest.approx(2 / 3)
    assert found.std_predicted**2 == pytest.approx(8 / 3)


@given(PAIRS)
def test_the_ccc_is_made_of_correlation_means_and_deviations(pairs):
    sums = of(pairs)
    found = sums.agreement()
    if min(pairs[:, 0].var(), pairs[:, 1].var()) > 1e-6:
        assert found.correlation == pytest.approx(np.corrcoef(pairs.T)[0, 1], abs=1e-9)
        above = 2 * found.correlation * found.std_truth * found.std_predicted
        apart = (found.mean_truth - found.mean_predicted) ** 2
        below = found.std_truth**2 + found.std_predicted**2 + apart
        assert sums.ccc() == pytest.approx(above / below, abs=1e-9)


def test_a_constant_goes_together_with_nothing():
    assert of([(0.1, 0.7)] * 30).agreement().correlation == 0
    with pytest.raises(ValueError, match="is any row annotated"):
        Concordance().agreement()


def test_ccc_equals_torchmetrics_once_its_moments_are_biased():
    # theirs is 2 cov / (var + var + d^2) with n - 1 below the sums, S = sum of products:
    # 1 / theirs = (squares + (n - 1) d^2) / 2S, and ours has n d^2 there: d^2 / 2S more
    rng = np.random.default_rng(3)
    truth = rng.uniform(-1, 1, 400)
    predicted = 0.5 * truth + 0.3 * rng.standard_normal(400) + 0.2
    theirs = ConcordanceCorrCoef()
    for part in np.split(np.stack([predicted, truth]), [10, 150], axis=1):
        theirs.update(*torch.from_numpy(part))
    products = ((truth - truth.mean()) * (predicted - predicted.mean())).sum()
    apart = (truth.mean() - predicted.mean()) ** 2
    biased = 1 / (1 / theirs.compute().item() + apart / (2 * products))
    assert Concordance.of(truth, predicted).ccc() == pytest.approx(biased, abs=1e-6)
    assert abs(theirs.compute().item() - biased) > 1e-5  # without, it is another number
