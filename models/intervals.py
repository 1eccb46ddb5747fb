"""How sure a score is: intervals by bootstrap over subjects (Efron, 1979; percentile method).

Frames of one person go together, so people are drawn and not frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from models.metrics import Concordance
from models.prediction import VaConcordance

RESAMPLES = 2000  # the ends of a 95 % interval then have some 50 draws beyond them
LEVEL = 0.95
SEED = 0
# Variance below which a resample counts as constant: taking moments off again leaves some 1e-16 of
# a constant, and a series that varies less than this has a CCC of 0 in every digit shown.
VARIANCE_FLOOR = 1e-12
FEW_SUBJECTS = 30  # with fewer clusters the interval is too narrow (Cameron et al., 2008)


@dataclass(frozen=True, slots=True)
class Interval:
    """Where a score lies at `LEVEL`, both ends included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ScoreIntervals:
    """The intervals of a split's three scores, from the same draws."""

    valence: Interval
    arousal: Interval
    mean: Interval


def score_intervals(subjects: Sequence[VaConcordance]) -> ScoreIntervals | None:
    """Intervals from the sums of each subject; None where fewer than two have annotated rows.

    Each resample draws as many subjects as there are, with replacement, and scores all their
    rows together, as the score itself does. Equal input gives equal intervals.
    """
    annotated = [sums for sums in subjects if sums.valence.n]
    n = len(annotated)
    if n < 2:
        return None
    drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    counts = drawn.astype(np.float64)  # (resamples, subjects)
    valence = resampled([sums.valence for sums in annotated], counts)
    arousal = resampled([sums.arousal for sums in annotated], counts)
    return ScoreIntervals(*(_middle(each) for each in (valence, arousal, (valence + arousal) / 2)))


def resampled(
    subjects: Sequence[Concordance], counts: Float64[np.ndarray, "K N"]
) -> Float64[np.ndarray, "K"]:
    """The CCC of K resamples, in each of which subject i stands `counts[:, i]` times.

    The same as adding the sums that often, but all at once: moments about a fixed point add.
    Near the mean of all subjects they keep their digits.
    """
    whole = sum(subjects, start=Concordance())
    moments = np.array([_moments(each, whole) for each in subjects])  # (N, 6)
    n, truth, predicted, squares_truth, squares_predicted, products = (counts @ moments).T
    apart = (truth - predicted) / n + whole.mean_truth - whole.mean_predicted
    squares_truth = squares_truth - truth**2 / n
    squares_predicted = squares_predicted - predicted**2 / n
    products = products - truth * predicted / n
    varies = np.minimum(squares_truth, squares_predicted) >= n * VARIANCE_FLOOR
    below = np.where(varies, squares_truth + squares_predicted + n * apart**2, 1.0)
    return np.where(varies, 2 * products / below, 0.0)


def _moments(sums: Concordance, whole: Concordance) -> tuple[float, ...]:
    """Count, and first and second moments about the means of `whole`."""
    truth = sums.mean_truth - whole.mean_truth
    predicted = sums.mean_predicted - whole.mean_predicted
    return (
        float(sums.n),
        sums.n * truth,
        sums.n * predicted,
        sums.squares_truth + sums.n * truth**2,
        sums.squares_predicted + sums.n * predicted**2,
        sums.products + sums.n * truth * predicted,
    )


def _middle(scores: Float64[np.ndarray, "K"]) -> Interval:
    """The middle `LEVEL` of the scores."""
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
