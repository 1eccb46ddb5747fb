"""Confidence intervals of a score or of a difference, over subjects, over seeds, or over both.

Over subjects, by bootstrap (Efron, 1979; percentile method): how the score of these predictions
would change with other people. Frames of one person are correlated, so people are drawn and not
frames. With few subjects that interval is too narrow and ignores that the bootstrap is biased and
skewed, so the bias-corrected and accelerated one (BCa; Efron, 1987) is computed beside it. Over
seeds, by Student's t: how the score would change if the same model were trained again
and scored on the same people. Neither interval covers the other source of variation.

Over people and over draws of the training at once, by a two-way bootstrap: each resample draws
people of the scored split and, independently, draws of the training (other people to learn from,
other label noise, another seed), and takes the mean over the draws of the score of these people.
Five draws are few, so the part that comes from them is somewhat too small.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64

from models.metrics.ccc import Concordance, VaConcordance

RESAMPLES = 2000  # about 50 draws lie beyond each end of a 95 % interval
LEVEL = 0.95
SEED = 0
# Variance below which a resample counts as constant: the subtraction of moments leaves about 1e-16
# of a constant, and a series that varies less than this has a CCC of 0 in every digit shown.
VARIANCE_FLOOR = 1e-12
SAME_LABELS = 1e-9  # moments of the same labels may differ by this: rounding depends on the order
FEW_SUBJECTS = 30  # with fewer clusters the interval is too narrow (Cameron et al., 2008)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its interval at `LEVEL`, both ends included."""

    value: float
    low: float
    high: float
    bca: tuple[float, float] | None = None
    """The BCa interval; None if there are `FEW_SUBJECTS` or more, or it is not over subjects."""
    p_value: float | None = None
    """Of the hypothesis that the difference is zero, two-sided; None if it is not a difference."""

    def ends(self, name: str) -> dict[str, float]:
        """The ends of the intervals, by the names of the columns of a table."""
        ends = {f"{name}_low": self.low, f"{name}_high": self.high}
        if self.bca:
            ends |= {f"{name}_bca_low": self.bca[0], f"{name}_bca_high": self.bca[1]}
        return ends


@dataclass(frozen=True, slots=True)
class ScoreEstimates:
    """The three scores of a split, or the differences of two models, from the same draws."""

    valence: Estimate
    arousal: Estimate
    mean: Estimate

    def ends(self) -> dict[str, float]:
        """The ends of all intervals, by the names that they have in a `SplitScore`."""
        valence, arousal = self.valence.ends("ccc_valence"), self.arousal.ends("ccc_arousal")
        return valence | arousal | self.mean.ends("ccc_mean")


def score_intervals(subjects: Sequence[VaConcordance]) -> ScoreEstimates | None:
    """Return the scores with intervals, from the sums of each subject.

    Each resample draws as many subjects as there are, with replacement, and scores all their
    rows together, as the score itself does. Equal input gives equal intervals. Returns None if
    fewer than two subjects have annotated rows.
    """
    annotated = [sums for sums in subjects if sums.valence.n]
    return _estimates(lambda counts: _scores(annotated, counts), len(annotated))


def paired_difference(
    a: Sequence[VaConcordance], b: Sequence[VaConcordance]
) -> ScoreEstimates | None:
    """Return the scores of `a` minus those of `b`, with intervals over subjects.

    Item i of both holds the sums of the same subject. Both are scored on the same resamples, so
    what makes a person hard for both cancels. The p-value counts the resamples on either side of
    zero (Davison and Hinkley, 1997, sec. 4.2), so its least value is 2 / (`RESAMPLES` + 1). Returns
    None if fewer than two subjects have annotated rows; raises `ValueError` if the subjects' labels
    are not the same.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} subjects cannot be paired with {len(b)}; give the same ones")
    for place, (one, other) in enumerate(zip(a, b, strict=True)):
        if labels_differ(one, other):
            raise ValueError(
                f"the subjects at place {place} do not have the same labels; give the sums of the "
                "same rows, in the same order of subjects"
            )
    first, second = ([sums for sums in each if sums.valence.n] for each in (a, b))
    return _estimates(
        lambda counts: _scores(first, counts) - _scores(second, counts), len(first), p_values=True
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number by Holm's step-down method (1979).

    Rejecting those below .05 wrongly rejects any true hypothesis with a probability of at most .05.
    """
    corrected, highest, n = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, index in enumerate(sorted(range(n), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (n - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def interval_over_seeds(values: Sequence[float]) -> Estimate | None:
    """Return mean and interval of a score, or of a difference, over trainings from several seeds.

    Student's t with the sample deviation; None for fewer than two seeds.
    """
    from scipy.special import stdtrit  # the quantile of t; scipy.stats takes a second to import

    n = len(values)
    if n < 2:
        return None
    mean = float(np.mean(values))
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half)


def mean_over_draws(draws: Sequence[Sequence[VaConcordance]]) -> Estimate | None:
    """Return the mean over draws of the mean CCC of V and A, with its interval.

    Each draw has the sums of the same people in the same order. None without a draw, or if fewer
    than two people have annotated rows.
    """
    return _over_draws([draws], lambda scores: scores[0])


def mean_difference(
    a: Sequence[Sequence[VaConcordance]], b: Sequence[Sequence[VaConcordance]]
) -> Estimate | None:
    """Return the same of the scores of `a` minus those of `b`, on the same resamples of both.

    Draw k of both has the same people to learn from, noise and seed, so what makes a draw or a
    person hard for both cancels.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} draws cannot be paired with {len(b)}; give the same ones")
    return _over_draws([a, b], lambda scores: scores[0] - scores[1])


def _estimates(
    scores: Callable[[Float64[np.ndarray, "K N"]], Float64[np.ndarray, "3 K"]],
    n: int,
    *,
    p_values: bool = False,
) -> ScoreEstimates | None:
    """Return the scores of n subjects, each counted once, with intervals over resamples.

    `scores` takes how often each subject is in each resample, which is the same for equal n.
    """
    if n < 2:
        return None
    drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    resampled, whole = scores(drawn.astype(np.float64)), scores(np.ones((1, n)))
    without_one = scores(1 - np.eye(n)) if n < FEW_SUBJECTS else None  # the jackknife
    return ScoreEstimates(
        *(
            _estimate(
                float(value),
                each,
                bca=None if without_one is None else bca_interval(value, each, without_one[k]),
                p_value=two_sided_p(each) if p_values else None,
            )
            for k, ((value,), each) in enumerate(zip(whole, resampled, strict=True))
        )
    )


def _scores(
    subjects: Sequence[VaConcordance], counts: Float64[np.ndarray, "K N"]
) -> Float64[np.ndarray, "3 K"]:
    """Return the CCC of valence, of arousal, and their mean, in each of K resamples."""
    valence = resample([sums.valence for sums in subjects], counts)
    arousal = resample([sums.arousal for sums in subjects], counts)
    return np.stack([valence, arousal, (valence + arousal) / 2])


def labels_differ(one: VaConcordance, other: VaConcordance) -> bool:
    """Return whether the labels behind two sums cannot be the same."""
    pairs = ((one.valence, other.valence), (one.arousal, other.arousal))
    return any(
        x.n != y.n
        or abs(x.mean_truth - y.mean_truth) > SAME_LABELS
        or abs(x.squares_truth - y.squares_truth) > x.n * SAME_LABELS
        for x, y in pairs
    )


def resample(
    subjects: Sequence[Concordance], counts: Float64[np.ndarray, "K N"]
) -> Float64[np.ndarray, "K"]:
    """Return the CCC of K resamples, in each of which subject i is counted `counts[:, i]` times.

    Equals adding the sums that often. Moments about a fixed point add up, so all resamples are one
    product; the mean of all subjects is that point, which keeps the digits.
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


def bca_interval(
    value: float, resampled: Float64[np.ndarray, "K"], without_one: Float64[np.ndarray, "N"]
) -> tuple[float, float]:
    """Return the BCa interval of a value (Efron, 1987; Efron and Tibshirani, 1993, sec. 14.3).

    `without_one` are the values without each subject. The percentiles are moved by how far the
    resamples lie off the value and by how fast their spread changes with it. Those are the plain
    ones if all resamples lie on one side of the value or the subjects are all alike.
    """
    below = float(np.mean(resampled < value) + np.mean(resampled <= value)) / 2
    from_mean = without_one.mean() - without_one
    squares = float((from_mean**2).sum())
    shares = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    if 0 < below < 1 and squares > 0:
        normal = NormalDist()
        bias = normal.inv_cdf(below)
        acceleration = float((from_mean**3).sum()) / (6 * squares**1.5)
        moved = [bias + normal.inv_cdf(share) for share in shares]
        shares = [normal.cdf(bias + z / (1 - acceleration * z)) for z in moved]
    low, high = np.quantile(resampled, shares)
    return float(low), float(high)


def two_sided_p(resampled: Float64[np.ndarray, "K"]) -> float:
    """Return twice the smaller share of resamples on either side of zero, itself counted."""
    n_smaller = int(min((resampled <= 0).sum(), (resampled >= 0).sum()))
    return min(1.0, 2 * (n_smaller + 1) / (len(resampled) + 1))


def _estimate(
    value: float,
    resampled: Float64[np.ndarray, "K"],
    *,
    bca: tuple[float, float] | None = None,
    p_value: float | None = None,
) -> Estimate:
    """Return the value with the middle `LEVEL` of the resampled ones."""
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), bca, p_value)


def _over_draws(
    models: Sequence[Sequence[Sequence[VaConcordance]]],
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
        of_models = [[_scores(each, counts)[2] for each in model] for model in annotated]
        return combine([np.stack(each) for each in of_models])

    value = float(scores(np.ones((1, n_people))).mean())
    resampled = (draws.T * scores(people.astype(np.float64))).sum(axis=0) / n_draws
    return _estimate(value, resampled)
