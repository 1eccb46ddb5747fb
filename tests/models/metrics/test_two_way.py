from functools import reduce
from operator import add

import numpy as np
import pytest

from models.metrics.ccc import Concordance, VaConcordance
from models.metrics.intervals import (
    LEVEL,
    RESAMPLES,
    SEED,
    mean_difference,
    mean_over_draws,
    score_intervals,
)

N_PEOPLE = 4


def people(seed: int, error: float = 0.4) -> list[VaConcordance]:
    """The sums of four people, whose labels are the same for every seed of the predictions."""
    labels, errors = np.random.default_rng(0), np.random.default_rng(seed)
    found = []
    for n in (30, 50, 20, 40):
        truth = labels.uniform(-1, 1, (n, 2))
        predicted = truth + error * errors.standard_normal((n, 2))
        found.append(
            VaConcordance(*(Concordance.of(truth[:, k], predicted[:, k]) for k in range(2)))
        )
    return found


def slow_resamples(*models: list[list[VaConcordance]]) -> np.ndarray:
    """The mean score over draws of each model in each resample, (M, K), sum by sum."""
    rng, n_draws = np.random.default_rng(SEED), len(models[0])
    persons = rng.multinomial(N_PEOPLE, np.full(N_PEOPLE, 1 / N_PEOPLE), size=RESAMPLES)
    draws = rng.multinomial(n_draws, np.full(n_draws, 1 / n_draws), size=RESAMPLES)
    found = np.zeros((len(models), RESAMPLES))
    for k in range(RESAMPLES):
        for m, model in enumerate(models):
            drawn = [model[d] for d in np.repeat(np.arange(n_draws), draws[k])]
            chosen = np.repeat(np.arange(N_PEOPLE), persons[k])
            scores = [reduce(add, [sums[i] for i in chosen]).ccc()[2] for sums in drawn]
            found[m, k] = np.mean(scores)
    return found


def test_the_interval_is_that_of_resampled_draws_and_people(monkeypatch):
    monkeypatch.setattr("models.metrics.intervals.RESAMPLES", 50)
    monkeypatch.setattr(f"{__name__}.RESAMPLES", 50)
    one, other = [people(1), people(2), people(3)], [people(4, 0.6), people(5, 0.6), people(6, 0.6)]
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    slow = slow_resamples(one, other)

    found = mean_over_draws(one)
    assert found.value == pytest.approx(np.mean([reduce(add, s).ccc()[2] for s in one]))
    assert [found.low, found.high] == pytest.approx(np.quantile(slow[0], ends))

    apart = mean_difference(one, other)
    assert apart.value == pytest.approx(found.value - mean_over_draws(other).value)
    assert [apart.low, apart.high] == pytest.approx(np.quantile(slow[0] - slow[1], ends))


def test_equal_draws_have_the_interval_over_people_alone():
    found, expected = mean_over_draws([people(1)] * 5), score_intervals(people(1)).mean
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


def test_draws_that_differ_widen_the_interval():
    alike = mean_over_draws([people(1)] * 2)
    apart = mean_over_draws([people(1, 0.1), people(1, 1.5)])
    assert apart.high - apart.low > 2 * (alike.high - alike.low)


def test_a_model_is_not_apart_from_itself():
    draws = [people(1), people(2)]
    found = mean_difference(draws, draws)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_what_cannot_be_resampled_has_no_interval():
    nobody = VaConcordance(Concordance(), Concordance())
    assert mean_over_draws([]) is None
    assert mean_over_draws([people(1)[:1]]) is None
    assert mean_over_draws([[people(1)[0], nobody]]) is None
    with pytest.raises(ValueError, match="2 draws cannot be paired with 1"):
        mean_difference([people(1), people(2)], [people(1)])
