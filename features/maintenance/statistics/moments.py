"""Mean, spread and range of rows, dimension by dimension, as sums that add up in any order."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Float64


@dataclass(frozen=True, slots=True)
class RowStatistics:
    """What is known of the rows of one feature set; forms a monoid under `+`.

    Squares are kept about the mean and merged as Chan, Golub and LeVeque (1983) do: a narrow
    dimension far from zero keeps its digits.
    """

    n: int
    mean: Float64[np.ndarray, "D"]
    """0 where there are no rows."""
    squares: Float64[np.ndarray, "D"]
    """Sum of squared distances from the mean."""
    low: Float64[np.ndarray, "D"]
    """The least; infinite where there are no rows."""
    high: Float64[np.ndarray, "D"]
    """The greatest; minus infinite where there are no rows."""

    @classmethod
    def none(cls, width: int) -> "RowStatistics":
        """Those of no rows of this width."""
        zeros, infinite = np.zeros(width), np.full(width, np.inf)
        return cls(0, zeros, zeros, infinite, -infinite)

    @classmethod
    def of(cls, values: Float16[np.ndarray, "N D"]) -> "RowStatistics":
        """Those of N finite rows; N may be 0. Takes 8 bytes a number meanwhile."""
        if not len(values):
            return cls.none(values.shape[1])
        exact = values.astype(np.float64)
        mean, low, high = exact.mean(axis=0), exact.min(axis=0), exact.max(axis=0)
        exact -= mean
        return cls(len(values), mean, np.einsum("nd,nd->d", exact, exact), low, high)

    def __add__(self, other: "RowStatistics") -> "RowStatistics":
        n = self.n + other.n
        if not n:
            return self
        share = other.n / n
        apart = other.mean - self.mean
        between = self.n * share  # self.n * other.n / n
        return RowStatistics(
            n,
            self.mean + share * apart,
            self.squares + other.squares + between * apart**2,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def std(self) -> Float64[np.ndarray, "D"]:
        """The biased standard deviation of each dimension; 0 where there are no rows."""
        return np.sqrt(self.squares / max(1, self.n))

    @property
    def dead(self) -> tuple[int, ...]:
        """The dimensions that are the same in all rows, of which there must be two."""
        return tuple(np.flatnonzero(self.low == self.high).tolist()) if self.n > 1 else ()
