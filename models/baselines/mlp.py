"""The baseline `mlp`: a small network per row, its weight decay chosen by cross-validation."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64
from pydantic import Field

from models.baselines.base import SEED, RowBaselineConfig, folds_by_subject

ALPHAS = np.logspace(0, 3, 4)  # candidates for the weight of the L2 penalty
BATCH_SIZE = 500  # rows per step


class MlpConfig(RowBaselineConfig):
    """A network per row.

    It stops after a fixed number of passes, because rows held out at random would show the same
    people as the training rows.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: int = Field(default=64, ge=1)
    """Width of its one hidden layer."""
    passes: int = Field(default=20, ge=1)
    """Number of passes over the training rows."""
    seed: int = Field(default=SEED, ge=0)
    """Seed of the initial weights and of the order of the rows."""

    def build(self, blocks: Sequence[slice], subjects: Int64[np.ndarray, "N"]) -> Any:
        """Standardised features, then the network."""
        from sklearn.model_selection import GridSearchCV
        from sklearn.neural_network import MLPRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        folds = folds_by_subject(subjects)
        fewest = min(len(fitted) for fitted, _ in folds)
        net = MLPRegressor(
            hidden_layer_sizes=(self.hidden,), max_iter=self.passes, random_state=self.seed
        ).set_params(batch_size=min(BATCH_SIZE, fewest))
        return GridSearchCV(
            make_pipeline(StandardScaler(), net), {"mlpregressor__alpha": ALPHAS}, cv=folds
        )
