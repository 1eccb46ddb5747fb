"""The baseline `mlp`: a small net on a row's features, its weight decay chosen by folds."""

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field

from models.baselines.base import SEED, BaselineConfig, Regressor, folds_by_subject

ALPHAS = np.logspace(0, 3, 4)  # that the strength of the L2 penalty is chosen of
BATCH_SIZE = 500  # rows per step


class MlpConfig(BaselineConfig):
    """A net per row.

    It stops after a fixed number of passes, not by rows held back at random: those would show
    the same people as the rows that it learns from.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: int = Field(default=64, ge=1)
    """Width of its one hidden layer."""
    passes: int = Field(default=20, ge=1)
    """Over the training rows."""
    seed: int = Field(default=SEED, ge=0)
    """Of the first weights and of the order of the rows."""

    def features(
        self, values: Float64[np.ndarray, "T D"], time_s: Float64[np.ndarray, "T"]
    ) -> Float64[np.ndarray, "T E"]:
        """The row."""
        return values

    def build(self, blocks: Sequence[slice], subjects: Int64[np.ndarray, "N"]) -> Regressor:
        """Features of unit deviation, then the net."""
        from sklearn.model_selection import GridSearchCV
        from sklearn.neural_network import MLPRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        folds = folds_by_subject(subjects)
        fewest = min(len(fitted) for fitted, _ in folds)
        net = MLPRegressor(
            hidden_layer_sizes=(self.hidden,),
            max_iter=self.passes,
            random_state=self.seed,
        ).set_params(batch_size=min(BATCH_SIZE, fewest))
        search = GridSearchCV(
            make_pipeline(StandardScaler(), net), {"mlpregressor__alpha": ALPHAS}, cv=folds
        )
        return _Quiet(search)


class _Quiet:
    """A search whose nets do not warn that they could learn on: their passes are chosen."""

    def __init__(self, search: Regressor) -> None:
        self.search = search

    def fit(self, rows: np.ndarray, va: np.ndarray, /) -> object:
        """Learn V and A of rows."""
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return self.search.fit(rows, va)

    def predict(self, rows: np.ndarray, /) -> np.ndarray:
        """V and A of rows."""
        return self.search.predict(rows)
