"""Baselines fitted to packed training rows, and their predictions of packed val rows."""

import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from features.errors import InputError
from models.baselines import AnyBaselineConfig
from models.baselines.base import RowBaselineConfig
from models.baselines.text import TextConfig, fit_text
from models.baselines.training_rows import any_valid, subjects_of_rows, training_rows
from models.data.packed import PackedFeatures
from models.metrics.predict import Prediction, interpolate_unseen
from models.metrics.zero_shot import predict_zero_shot
from models.regions.prompts import AnyPrompts
from models.regions.zero_shot import RegionPrototypes


def predict_baseline(
    config: AnyBaselineConfig,
    train: PackedFeatures,
    val: PackedFeatures,
    subject_by_clip: Mapping[str, str],
    read_regions: Callable[[AnyPrompts], RegionPrototypes],
) -> Prediction:
    """Return V and A of every val row, fitted to the annotated training rows.

    Settings are chosen by folds over `subject_by_clip`. A stream that a row lacks is replaced by
    its mean over the training rows. Rows without any of the streams are interpolated in time,
    as the head does with rows without a face. Of more than `MAX_ROWS` training rows every k-th is
    used. Only `text` encodes prompts, with `read_regions`. Raises `InputError` if there are no
    training rows, or too few people, and what `read_regions` raises.
    """
    if isinstance(config, TextConfig):
        regions = read_regions(config.prompts)
        settings = fit_text(
            train, subject_by_clip, regions, scale=config.scale, width_s=config.width_s
        )
        return predict_zero_shot(val, regions, settings)
    streams = config.read_streams(train)
    means = {stream: _training_mean(train, stream) for stream in streams}
    chosen = training_rows(train, streams)
    parts = [
        [block[chosen[span]] for block in _blocks(config, train, span, means)]
        for _, span in train.spans()
    ]
    ends = np.cumsum([0, *(block.shape[1] for block in parts[0])]).tolist()
    model = config.build(
        [slice(*pair) for pair in pairwise(ends)], subjects_of_rows(train, subject_by_clip)[chosen]
    )
    rows = np.concatenate([np.concatenate(blocks, axis=1) for blocks in parts])
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():  # the number of passes of `mlp` is a setting
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows, train.va.cpu().numpy()[chosen])
    va = np.zeros((len(val.time_s), 2))
    for _, span in val.spans():
        found = model.predict(np.concatenate(_blocks(config, val, span, means), axis=1))
        va[span] = np.clip(found, -1, 1)
    return interpolate_unseen(va, any_valid(val, streams), val)


def _track(packed: PackedFeatures, stream: str, span: slice) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings of a span of rows, and which of them are valid."""
    valid = packed[stream].valid[span]
    return packed.embeddings(stream, span).cpu().numpy(), valid.cpu().numpy()


def _training_mean(train: PackedFeatures, stream: str) -> Float64[np.ndarray, "D"]:
    """The mean over the valid rows; summed clip by clip, as a float64 copy of all is large."""
    total, n = 0, 0
    for _, span in train.spans():
        values, valid = _track(train, stream, span)
        total = total + values[valid].astype(np.float64).sum(axis=0)
        n += int(valid.sum())
    if not n:
        raise InputError(f"no row of the training clips has {stream} features to learn from")
    return np.asarray(total / n)


def _blocks(
    config: RowBaselineConfig,
    packed: PackedFeatures,
    span: slice,
    means: Mapping[str, Float64[np.ndarray, "_"]],
) -> list[Float64[np.ndarray, "T _"]]:
    """The inputs from a clip, one array per stream."""
    found = []
    for stream, mean in means.items():
        values, valid = _track(packed, stream, span)
        whole = np.where(valid[:, None], values.astype(np.float64), mean)
        found.append(config.features(whole, packed.time_s[span]))
    return found
