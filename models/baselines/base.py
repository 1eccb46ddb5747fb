"""The config of every baseline, and the folds over subjects that choose its settings."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import AfterValidator, ConfigDict, Field, model_validator

from features.config import Config
from features.errors import InputError
from features.timeline import extend_times
from models.data.packed import PackedFeatures
from models.data.stream_names import StreamName

FOLDS = 5  # at most; each person's rows are in one of them
SEED = 0  # of initial weights and of the solver of principal components

Folds = list[tuple[Int64[np.ndarray, "_"], Int64[np.ndarray, "_"]]]
"""Indices of the rows to fit on, and of those to score the fit on."""


def _each_once(streams: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(streams)) < len(streams):
        raise ValueError(f"streams = {', '.join(streams)} names one twice; name each once")
    return streams


StreamNames = Annotated[tuple[StreamName, ...], Field(min_length=1), AfterValidator(_each_once)]


class BaselineConfig(Config, ABC):
    """What the config of every baseline has."""

    model_config = ConfigDict(allow_inf_nan=False)


class RowBaselineConfig(BaselineConfig, ABC):
    """A regressor from the features of a row, fitted to annotated rows with a valid stream."""

    streams: StreamNames | None = None
    """The streams that are read; null: all."""

    @model_validator(mode="before")
    @classmethod
    def _accept_old_key(cls, fields: object) -> object:
        if not isinstance(fields, dict) or "modalities" not in fields:
            return fields
        if "streams" in fields:
            raise ValueError("modalities is the old name of streams: leave it out")
        return {("streams" if k == "modalities" else k): v for k, v in fields.items()}

    def read_streams(self, packed: PackedFeatures) -> tuple[str, ...]:
        """The streams that are read; raises `InputError` if the features lack one."""
        names = tuple(packed.streams)
        if missing := [name for name in self.streams or () if name not in names]:
            raise InputError(
                f"a baseline reads the stream {missing[0]!r}, and the streams are "
                f"{', '.join(names)}; name one of them"
            )
        return self.streams or names

    def features(
        self, values: Float64[np.ndarray, "T D"], time_s: Float64[np.ndarray, "T"]
    ) -> Float64[np.ndarray, "T E"]:
        """Return the inputs from one stream of a clip, whose missing rows are filled."""
        return values

    @abstractmethod
    def build(self, blocks: Sequence[slice], subjects: Int64[np.ndarray, "N"]) -> Any:
        """Return scikit-learn's regressor, to be fitted to N rows that show `subjects`.

        `blocks` are the columns of each stream. Raises `InputError` if there are too few people
        to choose its settings by.
        """


def folds_by_subject(subjects: Int64[np.ndarray, "N"]) -> Folds:
    """Return folds that do not split a person's rows; raises `InputError` below two people."""
    from sklearn.model_selection import GroupKFold  # takes a second

    n = len(np.unique(subjects))
    if n < 2:
        raise InputError(
            "what chooses its settings by folds over people cannot do so with the clips of one: "
            "give it clips of two subjects to train on"
        )
    rows = np.zeros((len(subjects), 1))
    return list(GroupKFold(min(FOLDS, n)).split(rows, groups=subjects))


def smoothed(
    values: Float64[np.ndarray, "T D"], time_s: Float64[np.ndarray, "T"], span_s: float
) -> Float64[np.ndarray, "T D"]:
    """Return each row's mean over a span around it; the first and last row are repeated."""
    from scipy.ndimage import uniform_filter1d

    step_s = extend_times(time_s, 1)[-1] - time_s[-1]
    n_rows = round(span_s / float(step_s))
    return uniform_filter1d(values, max(1, n_rows), axis=0, mode="nearest")
