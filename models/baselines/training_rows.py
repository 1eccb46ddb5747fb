"""The rows that a baseline is fitted to, and the people in them."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int64

from features.errors import InputError
from models.data.packed import PackedFeatures

MAX_ROWS = 30_000  # of training: bounds the memory, and neighbouring frames are nearly equal


def training_rows(train: PackedFeatures, streams: Sequence[str]) -> Bool[np.ndarray, "N"]:
    """Return the annotated rows with a valid stream; every k-th if they exceed `MAX_ROWS`."""
    known = np.flatnonzero(train.va_valid.cpu().numpy() & any_valid(train, streams))
    if not len(known):
        raise InputError(
            f"no annotated row of the training clips has {' or '.join(streams)} features to "
            "learn from; are its labels all invalid?"
        )
    chosen = np.zeros(len(train.time_s), dtype=bool)
    chosen[known[:: -(-len(known) // MAX_ROWS)]] = True
    return chosen


def subjects_of_rows(
    packed: PackedFeatures, subject_by_clip: Mapping[str, str]
) -> Int64[np.ndarray, "N"]:
    """Return the subject of each row, numbered in the order of their first clip."""
    names = [subject_by_clip[clip_id] for clip_id in packed.clip_ids]
    number = {name: k for k, name in enumerate(dict.fromkeys(names))}
    return np.repeat([number[name] for name in names], np.diff(packed.offsets))


def any_valid(packed: PackedFeatures, streams: Sequence[str]) -> Bool[np.ndarray, "N"]:
    """Return which rows are valid in one of the streams."""
    return np.logical_or.reduce([packed[name].valid.cpu().numpy() for name in streams])
