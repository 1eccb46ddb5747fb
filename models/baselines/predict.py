"""From banks to the rows that a baseline reads, and from what it says of them to a prediction."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

from features.errors import InputError
from models.baselines.base import BaselineConfig
from models.data.feature_sets import Modality
from models.data.packed import PackedFeatures
from models.metrics.predict import Prediction, fill_gaps

MAX_ROWS = 30_000  # to learn from: it bounds the memory, and frames close in time tell the same


def predict_baseline(
    config: BaselineConfig, train: PackedFeatures, val: PackedFeatures, groups: Mapping[str, str]
) -> Prediction:
    """V and A of every row of the val bank, learnt from the annotated rows of the train bank.

    `groups` tells whom each training clip shows; settings are chosen on people left out. A
    modality that a row lacks counts as its mean over the training rows. A row that has none of
    them is read from its neighbours in time; the head reads every row without a face so. Of
    more than `MAX_ROWS` rows every k-th is learnt from. `InputError` where there is nothing to
    learn from, or too few people.
    """
    means = [_training_mean(train, modality) for modality in config.modalities]
    learnt = _rows_to_learn_from(train, config.modalities)
    parts = [
        [block[learnt[span]] for block in _blocks(config, train, span, means)]
        for _, span in train.spans()
    ]
    ends = np.cumsum([0, *(block.shape[1] for block in parts[0])]).tolist()
    model = config.build(
        [slice(*pair) for pair in pairwise(ends)], _subjects(train, groups)[learnt]
    )
    rows = np.concatenate([np.concatenate(blocks, axis=1) for blocks in parts])
    model.fit(rows, train.va.cpu().numpy()[learnt])

    va, interpolated = np.zeros((len(val.time_s), 2)), np.zeros(len(val.time_s), dtype=bool)
    seen = _any_valid(val, config.modalities)
    for _, span in val.spans():
        found = model.predict(np.concatenate(_blocks(config, val, span, means), axis=1))
        va[span] = fill_gaps(np.clip(found, -1, 1), seen[span], val.time_s[span])
        interpolated[span] = ~seen[span] & seen[span].any()
    return Prediction(va, interpolated)


def _rows_to_learn_from(
    train: PackedFeatures, modalities: Sequence[Modality]
) -> Bool[np.ndarray, "N"]:
    """The annotated rows in which something is valid, or every k-th of them."""
    known = np.flatnonzero(train.va_valid.cpu().numpy() & _any_valid(train, modalities))
    if not len(known):
        raise InputError(
            f"no annotated row of the training clips has {' or '.join(modalities)} features to "
            "learn from; are its labels all invalid?"
        )
    chosen = np.zeros(len(train.time_s), dtype=bool)
    chosen[known[:: -(-len(known) // MAX_ROWS)]] = True
    return chosen


def _subjects(bank: PackedFeatures, groups: Mapping[str, str]) -> Int64[np.ndarray, "N"]:
    """Whom each row shows, as numbers in the order of their first clip."""
    names = [groups[clip_id] for clip_id in bank.clip_ids]
    number = {name: k for k, name in enumerate(dict.fromkeys(names))}
    return np.repeat([number[name] for name in names], np.diff(bank.offsets))


def _any_valid(bank: PackedFeatures, modalities: Sequence[Modality]) -> Bool[np.ndarray, "N"]:
    """Where a row has one of the modalities."""
    return np.logical_or.reduce([_track(bank, modality)[1] for modality in modalities])


def _track(
    bank: PackedFeatures, modality: Modality, span: slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """The stored values of a span of rows, and which of them are valid."""
    valid = bank.visual_valid if modality == "visual" else bank.audio_valid
    return bank.embeddings(modality, span).cpu().numpy(), valid[span].cpu().numpy()


def _training_mean(train: PackedFeatures, modality: Modality) -> Float64[np.ndarray, "D"]:
    """The mean over the valid rows; summed clip by clip, for a float64 copy of all is large."""
    total, n = 0, 0
    for _, span in train.spans():
        values, valid = _track(train, modality, span)
        total = total + values[valid].astype(np.float64).sum(axis=0)
        n += int(valid.sum())
    if not n:
        raise InputError(f"no row of the training clips has {modality} features to learn from")
    return np.asarray(total / n)


def _blocks(
    config: BaselineConfig,
    bank: PackedFeatures,
    span: slice,
    means: Sequence[Float64[np.ndarray, "_"]],
) -> list[Float64[np.ndarray, "T _"]]:
    """What the config reads of a clip, one array per modality."""
    found = []
    for modality, mean in zip(config.modalities, means, strict=True):
        values, valid = _track(bank, modality, span)
        whole = np.where(valid[:, None], values.astype(np.float64), mean)
        found.append(config.features(whole, bank.time_s[span]))
    return found
