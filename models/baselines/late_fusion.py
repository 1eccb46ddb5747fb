"""The baseline `late_fusion`: a regression per stream, and a chosen share of each in the sum."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

from models.baselines.base import folds_by_subject
from models.baselines.ridge import RidgeConfig


class LateFusionConfig(RidgeConfig):
    """Ridge regression on each stream alone, with shares chosen for each of V and A.

    The shares are not negative. They fit predictions for people whom the regression has not seen,
    in folds over subjects.
    """

    kind: Literal["late_fusion"] = "late_fusion"  # pyright: ignore[reportIncompatibleVariableOverride]

    def build(self, blocks: Sequence[slice], subjects: Int64[np.ndarray, "N"]) -> Any:
        """The regressions of all streams, and their shares."""
        return _LateFusion(super().build, blocks, subjects)


class _LateFusion:
    """Estimates with `fit` and `predict`, as scikit-learn's regressors do."""

    def __init__(
        self,
        ridge: Callable[[Sequence[slice], Int64[np.ndarray, "N"]], Any],
        blocks: Sequence[slice],
        subjects: Int64[np.ndarray, "N"],
    ) -> None:
        self._ridge, self._blocks, self._subjects = ridge, blocks, subjects

    def fit(self, rows: Float64[np.ndarray, "N D"], va: Float64[np.ndarray, "N 2"]) -> None:
        """Fit the shares on predictions out of fold, then every regression on all rows."""
        from sklearn.linear_model import LinearRegression

        held_out = np.zeros((len(self._blocks), *va.shape))
        for fitted, rest in folds_by_subject(self._subjects):
            for number, model in enumerate(self._fitted(rows[fitted], va[fitted], fitted)):
                held_out[number, rest] = model.predict(rows[rest, self._blocks[number]])
        self._models = self._fitted(rows, va, np.arange(len(rows)))
        self._shares = [
            LinearRegression(positive=True).fit(held_out[..., k].T, va[:, k]) for k in range(2)
        ]

    def predict(self, rows: Float64[np.ndarray, "N D"]) -> Float64[np.ndarray, "N 2"]:
        """Return the sum of the shares of the streams, and a constant."""
        alone = np.stack(
            [
                model.predict(rows[:, block])
                for model, block in zip(self._models, self._blocks, strict=True)
            ]
        )  # (K, N, 2)
        return np.stack(
            [shares.predict(alone[..., k].T) for k, shares in enumerate(self._shares)], axis=1
        )

    def _fitted(
        self,
        rows: Float64[np.ndarray, "M D"],
        va: Float64[np.ndarray, "M 2"],
        index: Int64[np.ndarray, "M"],
    ) -> list[Any]:
        """The regression of each stream, its penalty chosen by folds over the people in `rows`."""
        subjects = self._subjects[index]
        return [self._ridge([block], subjects).fit(rows[:, block], va) for block in self._blocks]
