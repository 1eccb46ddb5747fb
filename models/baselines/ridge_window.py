"""The baseline `ridge_window`: ridge on the principal components of the window around a row."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import Field

from models.baselines.base import SEED, RowBaselineConfig, folds_by_subject, smoothed

ALPHAS = np.logspace(0, 6, 7)  # candidates for the penalty


class RidgeWindowConfig(RowBaselineConfig):
    """Ridge regression on a row's neighbours in order, reduced to few numbers per stream."""

    kind: Literal["ridge_window"] = "ridge_window"
    reach_s: float = Field(default=2.0, gt=0, le=60)
    """Length of the window on either side of the row."""
    step_s: float = Field(default=0.5, ge=0.02)
    """The window is read as means over spans of this length, this far apart."""
    components: int = Field(default=32, ge=1)
    """Maximum number of principal components of each stream."""

    def features(
        self, values: Float64[np.ndarray, "T D"], time_s: Float64[np.ndarray, "T"]
    ) -> Float64[np.ndarray, "T E"]:
        """Return the means of the window, earliest first; the ends of the clip are repeated."""
        means = smoothed(values, time_s, self.step_s)
        n_steps = round(self.reach_s / self.step_s)
        offsets_s = self.step_s * np.arange(-n_steps, n_steps + 1)
        return np.concatenate([means[nearest(time_s, time_s + o)] for o in offsets_s], axis=1)

    def build(self, blocks: Sequence[slice], subjects: Int64[np.ndarray, "N"]) -> Any:
        """Principal components of each stream, then ridge regression.

        Every fold uses the components of all training rows, as they are computed without labels.
        """
        from sklearn.compose import make_column_transformer
        from sklearn.decomposition import PCA
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        def reduced(block: slice) -> tuple:
            n = min(self.components, block.stop - block.start, len(subjects))
            return make_pipeline(StandardScaler(), PCA(n, random_state=SEED)), block

        return make_pipeline(
            make_column_transformer(*(reduced(block) for block in blocks)),
            RidgeCV(ALPHAS, cv=folds_by_subject(subjects)),
        )


def nearest(
    time_s: Float64[np.ndarray, "T"], at_s: Float64[np.ndarray, "N"]
) -> Int64[np.ndarray, "N"]:
    """Return the row nearest to each time, the earlier of two equally near."""
    after = np.searchsorted(time_s, at_s).clip(max=len(time_s) - 1)
    before = (after - 1).clip(min=0)
    return np.where(at_s - time_s[before] <= time_s[after] - at_s, before, after)
