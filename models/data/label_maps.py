"""The labels of several data sets on one scale."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from features.errors import InputError
from features.manifest.labels import Labels
from models.data.data_sets import LabelMap


def mapped(labels: Labels, to_first: LabelMap) -> Labels:
    """Return the labels with mapped values; those that are not valid stay 0."""
    slope, offset = np.array([to_first.valence, to_first.arousal], dtype=np.float64).T
    va = np.where(labels.valid[:, None], labels.va * slope + offset, 0.0)
    return replace(labels, va=va)


def matching_maps(labels: Mapping[str, Sequence[Labels]]) -> dict[str, LabelMap]:
    """Return the maps that give the labels of each set the mean and deviation of the first one.

    Over all valid labels of the set, V and A separately. Raises `InputError` if those of a set
    have no spread.
    """
    moments = {name: _moments(name, items) for name, items in labels.items()}
    (mean, deviation), *_ = moments.values()

    def of(name: str, k: int) -> tuple[float, float]:
        own_mean, own_deviation = moments[name]
        slope = float(deviation[k] / own_deviation[k])
        return slope, float(mean[k] - slope * own_mean[k])

    others = [*moments][1:]
    return {name: LabelMap(valence=of(name, 0), arousal=of(name, 1)) for name in others}


def _moments(
    name: str, labels: Sequence[Labels]
) -> tuple[Float64[np.ndarray, "2"], Float64[np.ndarray, "2"]]:
    va = np.concatenate([np.zeros((0, 2)), *(item.va[item.valid] for item in labels)])
    deviation = va.std(axis=0) if len(va) else np.zeros(2)
    if not deviation.all():
        raise InputError(
            f"train.label_maps is match, and the training labels of {name!r} do not vary in "
            f"{'valence' if not deviation[0] else 'arousal'}, so that no scale can be "
            "computed; name maps instead, or leave this set out"
        )
    return va.mean(axis=0), deviation
