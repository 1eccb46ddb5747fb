"""The concordance correlation coefficient, as sums that add up (Lin, 1989)."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

# Below this variance a series counts as constant: rounding in float64 leaves less than 1e-31 of a
# constant in [-1, 1], and one label of three million that differs by .001 makes 3e-13.
VARIANCE_FLOOR = 1e-20


@dataclass(frozen=True, slots=True)
class Concordance:
    """Sums over pairs (truth, prediction) of one dimension; forms a monoid under `+`.

    Squares are about the mean, not about zero, and are merged as by Chan, Golub and LeVeque
    (1983), so that a narrow series far from zero keeps its digits.
    """

    n: int = 0
    mean_truth: float = 0.0
    mean_predicted: float = 0.0
    squares_truth: float = 0.0
    """Sum of squared distances from the mean."""
    squares_predicted: float = 0.0
    products: float = 0.0
    """Sum of products of the distances from the means."""

    @classmethod
    def of(
        cls, truth: Float64[np.ndarray, "N"], predicted: Float64[np.ndarray, "N"]
    ) -> "Concordance":
        """Return the sums of N pairs; N may be 0."""
        if not len(truth):
            return cls()
        mean_truth, mean_predicted = float(truth.mean()), float(predicted.mean())
        from_truth, from_predicted = truth - mean_truth, predicted - mean_predicted
        return cls(
            len(truth),
            mean_truth,
            mean_predicted,
            float(from_truth @ from_truth),
            float(from_predicted @ from_predicted),
            float(from_truth @ from_predicted),
        )

    def __add__(self, other: "Concordance") -> "Concordance":
        n = self.n + other.n
        if not n:
            return self
        share = other.n / n
        truth = other.mean_truth - self.mean_truth
        predicted = other.mean_predicted - self.mean_predicted
        between = self.n * share  # self.n * other.n / n
        return Concordance(
            n,
            self.mean_truth + share * truth,
            self.mean_predicted + share * predicted,
            self.squares_truth + other.squares_truth + between * truth**2,
            self.squares_predicted + other.squares_predicted + between * predicted**2,
            self.products + other.products + between * truth * predicted,
        )

    def ccc(self) -> float:
        """Return 2 cov / (var + var + (mean - mean)^2) with biased variances, in [-1, 1].

        It is 0 if truth or prediction is constant, even if both are the same constant and the
        formula is 0 / 0. Raises `ValueError` if there are no pairs.
        """
        if not self.n:
            raise ValueError("the CCC of no rows is undefined; is any row annotated?")
        squares = (self.squares_truth, self.squares_predicted)
        if min(squares) < self.n * VARIANCE_FLOOR:
            return 0.0
        apart = self.n * (self.mean_truth - self.mean_predicted) ** 2
        return 2 * self.products / (sum(squares) + apart)

    def agreement(self) -> "Agreement":
        """Return the parts of the CCC; raises `ValueError` if there are no pairs."""
        if not self.n:
            raise ValueError("no rows agree or disagree; is any row annotated?")
        squares = (self.squares_truth, self.squares_predicted)
        flat = min(squares) < self.n * VARIANCE_FLOOR
        return Agreement(
            correlation=0.0 if flat else self.products / math.sqrt(squares[0] * squares[1]),
            mean_truth=self.mean_truth,
            mean_predicted=self.mean_predicted,
            std_truth=math.sqrt(self.squares_truth / self.n),
            std_predicted=math.sqrt(self.squares_predicted / self.n),
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """Correlation, means and deviations of truth and prediction.

    CCC = 2 * correlation * s * t / (s^2 + t^2 + (difference of the means)^2), for deviations s, t.
    """

    correlation: float
    """Pearson's; 0 if one of the two is constant."""
    mean_truth: float
    mean_predicted: float
    std_truth: float
    """Biased, as in the CCC; so is the next."""
    std_predicted: float


@dataclass(frozen=True, slots=True)
class VaConcordance:
    """The sums of both dimensions."""

    valence: Concordance
    arousal: Concordance

    def __add__(self, other: "VaConcordance") -> "VaConcordance":
        return VaConcordance(self.valence + other.valence, self.arousal + other.arousal)

    def ccc(self) -> tuple[float, float, float]:
        """Return the CCC of valence and of arousal, and their mean; raises as `Concordance.ccc`."""
        valence, arousal = self.valence.ccc(), self.arousal.ccc()
        return valence, arousal, (valence + arousal) / 2
