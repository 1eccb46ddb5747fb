"""How sure a score, or the difference of two, is: over subjects, or over training seeds.

Over subjects, by bootstrap (Efron, 1979; percentile method): what other people like these would
make of these very predictions. Frames of one person go together, so people are drawn and not
frames. Over seeds, by Student's t: what another training of the same model would make on these
very people. Neither holds the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from models.metrics.ccc import Concordance, VaConcordance

RESAMPLES = 2000  # the ends of a 95 % interval then have some 50 draws beyond them
LEVEL = 0.95
SEED = 0
# Variance below which a resample counts as constant: taking moments off again leaves some 1e-16 of
# a constant, and a series that varies less than this has a CCC of 0 in every digit shown.
VARIANCE_FLOOR = 1e-12
SAME_LABELS = 1e-9  # how far moments of the same labels may be apart: the order of sums rounds
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


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and where it lies at `LEVEL`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ScoreDifferences:
    """How much higher one model scores than another, on the same rows of the same people."""

    valence: Estimate
    arousal: Estimate
    mean: Estimate
    """Of the mean CCC."""


def score_intervals(subjects: Sequence[VaConcordance]) -> ScoreIntervals | None:
    """Intervals from the sums of each subject; None where fewer than two have annotated rows.

    Each resample draws as many subjects as there are, with replacement, and scores all their
    rows together, as the score itself does. Equal input gives equal intervals.
    """
    annotated = [sums for sums in subjects if sums.valence.n]
    if len(annotated) < 2:
        return None
    return ScoreIntervals(*(_middle(each) for each in _scores(annotated, _counts(len(annotated)))))


def paired_difference(
    a: Sequence[VaConcordance], b: Sequence[VaConcordance]
) -> ScoreDifferences | None:
    """The scores of `a` minus those of `b`, with intervals over subjects.

    Item i of both holds the sums of the same subject. Both are scored on the same resamples, so
    what makes a person hard for both falls out. None where fewer than two subjects have
    annotated rows; `ValueError` where the subjects' labels are not the same.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} subjects cannot be paired with {len(b)}; give the same ones")
    for place, (one, other) in enumerate(zip(a, b, strict=True)):
        if _differ(one, other):
            raise ValueError(
                f"the subjects at place {place} do not have the same labels; give the sums of the "
                "same rows, in the same order of subjects"
            )
    first, second = ([sums for sums in each if sums.valence.n] for each in (a, b))
    if len(first) < 2:
        return None
    counts, once = _counts(len(first)), np.ones((1, len(first)))
    apart, whole = (_scores(first, k) - _scores(second, k) for k in (counts, once))
    found = []
    for (value,), drawn in zip(whole, apart, strict=True):
        interval = _middle(drawn)
        found.append(Estimate(float(value), interval.low, interval.high))
    return ScoreDifferences(*found)


def interval_over_seeds(values: Sequence[float]) -> Estimate | None:
    """Mean and interval of a score, or of a paired difference, over trainings from several seeds.

    Student's t on the sample deviation; None for fewer than two.
    """
    from scipy.stats import t  # a second, that a scoring need not wait for

    n = len(values)
    if n < 2:
        return None
    mean = float(np.mean(values))
    half = float(t.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Estimate(mean, mean - half, mean + half)


def _counts(n: int) -> Float64[np.ndarray, "K N"]:
    """How often each of n subjects stands in each resample; the same for equal n."""
    drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return drawn.astype(np.float64)


def _scores(
    subjects: Sequence[VaConcordance], counts: Float64[np.ndarray, "K N"]
) -> Float64[np.ndarray, "3 K"]:
    """CCC of valence, of arousal, and their mean, in each resample."""
    valence = resample([sums.valence for sums in subjects], counts)
    arousal = resample([sums.arousal for sums in subjects], counts)
    return np.stack([valence, arousal, (valence + arousal) / 2])


def _differ(one: VaConcordance, other: VaConcordance) -> bool:
    """Whether the labels behind two sums cannot be the same."""
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
