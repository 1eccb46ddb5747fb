"""The baseline `mean`: the mean of the training labels, in every row. Its CCC is 0."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64

from models.baselines.base import RowBaselineConfig


class MeanConfig(RowBaselineConfig):
    """No settings; the streams only select the training rows."""

    kind: Literal["mean"] = "mean"

    def features(
        self, values: Float64[np.ndarray, "T D"], time_s: Float64[np.ndarray, "T"]
    ) -> Float64[np.ndarray, "T E"]:
        """Return no columns."""
        return values[:, :0]

    def build(self, blocks: Sequence[slice], subjects: Int64[np.ndarray, "N"]) -> Any:
        """A constant."""
        from sklearn.dummy import DummyRegressor

        return DummyRegressor()
