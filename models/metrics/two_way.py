"""Confidence intervals over people and over draws of the training at once.

A two-way bootstrap: each resample draws people of the scored split and, independently, draws of the
training (other people to learn from, other label noise, another seed), and takes the mean over the
draws of the score of these people. It covers both sources of variation. Five draws are few, so the
part that comes from them is somewhat too small.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64

from models.metrics.ccc import VaConcordance
from models.metrics.intervals import RESAMPLES, SEED, Estimate, estimate, resampled_scores

Sums = Sequence[VaConcordance]
"""Of each person of the scored split."""


def mean_over_draws(draws: Sequence[Sums]) -> Estimate | None:
    """Return the mean over draws of the mean CCC of V and A, with its interval.

    Each draw has the sums of the same people in the same order. None without a draw, or if fewer
    than two people have annotated rows.
    """
    return _estimate([draws], lambda scores: scores[0])


def mean_difference(a: Sequence[Sums], b: Sequence[Sums]) -> Estimate | None:
    """Return the same of the scores of `a` minus those of `b`, on the same resamples of both.

    Draw k of both has the same people to learn from, noise and seed, so what makes a draw or a
    person hard for both cancels.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} draws cannot be paired with {len(b)}; give the same ones")
    return _estimate([a, b], lambda scores: scores[0] - scores[1])


def _estimate(
    models: Sequence[Sequence[Sums]],
    combine: Callable[[list[Float64[np.ndarray, "D K"]]], Float64[np.ndarray, "D K"]],
) -> Estimate | None:
    """Return the mean over draws of a combination of the models' scores, with its interval."""
    annotated = [
        [[sums for sums in people if sums.valence.n] for people in draws] for draws in models
    ]
    n_draws = len(annotated[0])
    n_people = len(annotated[0][0]) if n_draws else 0
    if n_people < 2:
        return None
    rng = np.random.default_rng(SEED)
    people = rng.multinomial(n_people, np.full(n_people, 1 / n_people), size=RESAMPLES)
    draws = rng.multinomial(n_draws, np.full(n_draws, 1 / n_draws), size=RESAMPLES)  # (K, D)

    def scores(counts: Float64[np.ndarray, "K N"]) -> Float64[np.ndarray, "D K"]:
        of_models = [[resampled_scores(each, counts)[2] for each in model] for model in annotated]
        return combine([np.stack(each) for each in of_models])

    value = float(scores(np.ones((1, n_people))).mean())
    resampled = (draws.T * scores(people.astype(np.float64))).sum(axis=0) / n_draws
    return estimate(value, resampled)
