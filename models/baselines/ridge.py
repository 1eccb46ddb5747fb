"""The baseline `ridge`: ridge regression per row, its penalty chosen by cross-validation."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field

from models.baselines.base import RowBaselineConfig, folds_by_subject, smoothed

ALPHAS = np.logspace(0, 5, 6)  # candidates for the penalty


class RidgeConfig(RowBaselineConfig):
    """Ridge regression per row."""

    kind: Literal["ridge"] = "ridge"
    spans_s: tuple[Annotated[float, Field(gt=0, le=600)], ...] = ()
    """Spans around a row whose mean features are also read; none: the row alone."""

    def features(
        self, values: Float64[np.ndarray, "T D"], time_s: Float64[np.ndarray, "T"]
    ) -> Float64[np.ndarray, "T E"]:
        """Return the row and the means around it."""
        near = (smoothed(values, time_s, span_s) for span_s in self.spans_s)
        return np.concatenate([values, *near], axis=1)

    def build(self, blocks: Sequence[slice], subjects: Int64[np.ndarray, "N"]) -> Any:
        """Standardised features, then ridge regression."""
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), RidgeCV(ALPHAS, cv=folds_by_subject(subjects)))
