"""Mean, standard deviation and range of rows by dimension, as sums."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16, Float32, Float64


@dataclass(frozen=True, slots=True)
class RowStatistics:
    """The moments of some rows; a monoid under `+`.

    Squared deviations are merged as in Chan, Golub and LeVeque (1983), which is accurate if a
    dimension has a small variance and a large mean.
    """

    n: int
    """Number of rows."""
    mean: Float64[np.ndarray, "D"]
    """0 without rows."""
    squares: Float64[np.ndarray, "D"]
    """Sum of squared deviations from the mean."""
    low: Float64[np.ndarray, "D"]
    """Minimum; inf without rows."""
    high: Float64[np.ndarray, "D"]
    """Maximum; -inf without rows."""

    @classmethod
    def none(cls, width: int) -> "RowStatistics":
        """Return the moments of no rows of `width` numbers."""
        zeros, infinite = np.zeros(width), np.full(width, np.inf)
        return cls(0, zeros, zeros, infinite, -infinite)

    @classmethod
    def of(cls, values: Float16[np.ndarray, "N D"] | Float32[np.ndarray, "N D"]) -> "RowStatistics":
        """Return the moments of N >= 0 finite rows; needs 8 bytes of memory per number."""
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
        distance = other.mean - self.mean
        between = self.n * share  # self.n * other.n / n
        return RowStatistics(
            n,
            self.mean + share * distance,
            self.squares + other.squares + between * distance**2,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def std(self) -> Float64[np.ndarray, "D"]:
        """Biased standard deviation; 0 without rows."""
        return np.sqrt(self.squares / max(1, self.n))

    @property
    def dead(self) -> tuple[int, ...]:
        """Dimensions with the same value in all rows; none for fewer than two rows."""
        return tuple(np.flatnonzero(self.low == self.high).tolist()) if self.n > 1 else ()
