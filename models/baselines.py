"""Ridge regression from the same rows, by the same score: what a head must be better than."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64
from scipy.ndimage import uniform_filter1d
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from features.errors import InputError
from features.manifest import read_manifest
from features.timeline import MAX_ROWS_APART, extended
from models.bank import Bank
from models.loading import (
    Modality,
    clips_of_split,
    load_bank,
    open_sets,
    read_all_labels,
)
from models.prediction import Prediction, VaConcordance, concordance, fill_gaps

ALPHAS = np.logspace(0, 5, 6)  # of which ridge chooses by folds over the training clips
FOLDS = 5
NEIGHBOURS_S = (1.0, 4.0)  # spans about a row whose mean features tell of its neighbours


def load_banks(
    manifest: Path,
    store: str,
    visual: str | None = None,
    audio: str | None = None,
    max_rows_apart: int = MAX_ROWS_APART,
) -> tuple[Bank, Bank]:
    """The banks of the train and the val split; errors as of `train_head`."""
    listed, sets = read_manifest(manifest), open_sets(store, visual, audio)
    train, val = (
        load_bank(
            sets,
            read_all_labels(listed, clips_of_split(listed, split), required=True),
            max_rows_apart,
        )
        for split in ("train", "val")
    )
    return train, val


def score_ridge(
    train: Bank, val: Bank, modalities: Sequence[Modality], *, neighbours: bool = False
) -> VaConcordance:
    """The score of ridge regression per row, from the train bank to the val bank.

    A modality that a row lacks counts as its mean over the training rows. A row that has none of
    them is read from its neighbours in time; the head reads every row without a face so. With
    `neighbours` a row also has the mean features of the spans about it.
    """
    fit_rows = train.va_valid.numpy() & _any_valid(train, modalities)
    clips = np.repeat(np.arange(len(train.clip_ids)), np.diff(train.offsets))[fit_rows]
    features = _features(train, train, modalities, neighbours)[fit_rows]
    model = _ridge(clips).fit(features, train.va.numpy()[fit_rows])
    va = np.clip(model.predict(_features(val, train, modalities, neighbours)), -1, 1)
    seen = _any_valid(val, modalities)
    for _, span in val.spans():
        va[span] = fill_gaps(va[span], seen[span], val.time_s[span])
    return concordance(Prediction(va, ~seen), val)


def _ridge(clips: np.ndarray) -> Pipeline:
    """Ridge whose strength is chosen on clips that it was not fitted on."""
    if len(np.unique(clips)) < 2:
        raise InputError("ridge chooses its strength by folds: give it two clips to train on")
    rows = np.zeros((len(clips), 1))
    folds = list(GroupKFold(min(FOLDS, len(np.unique(clips)))).split(rows, groups=clips))
    return make_pipeline(StandardScaler(), RidgeCV(ALPHAS, cv=folds))


def _any_valid(bank: Bank, modalities: Sequence[Modality]) -> Bool[np.ndarray, "N"]:
    valid = [getattr(bank, f"{modality}_valid").numpy() for modality in modalities]
    return np.logical_or.reduce(valid)


def _features(
    bank: Bank, train: Bank, modalities: Sequence[Modality], neighbours: bool
) -> Float64[np.ndarray, "N D"]:
    """The rows' features side by side; where a modality is not valid, its training mean."""
    columns = []
    for modality in modalities:
        known = getattr(train, f"{modality}_valid").numpy()
        if not known.any():
            raise InputError(f"no row of the training clips has {modality} features to learn from")
        mean = getattr(train, modality).numpy()[known].astype(np.float64).mean(axis=0)
        valid = getattr(bank, f"{modality}_valid").numpy()[:, None]
        values = np.where(valid, getattr(bank, modality).numpy().astype(np.float64), mean)
        columns.append(values)
        if neighbours:
            columns += [_smoothed(bank, values, span_s) for span_s in NEIGHBOURS_S]
    return np.concatenate(columns, axis=1)


def _smoothed(
    bank: Bank, values: Float64[np.ndarray, "N D"], span_s: float
) -> Float64[np.ndarray, "N D"]:
    """Each row's mean over a span about it, within its clip."""
    smooth = np.empty_like(values)
    for _, span in bank.spans():
        step_s = extended(bank.time_s[span], 1)[-1] - bank.time_s[span][-1]
        n_rows = round(span_s / float(step_s))
        smooth[span] = uniform_filter1d(values[span], max(1, n_rows), axis=0, mode="nearest")
    return smooth
