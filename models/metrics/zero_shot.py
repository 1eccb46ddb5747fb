"""Zero-shot predictions of every row of packed features (models/regions/zero_shot.py)."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from models.data.packed import ROWS_AT_ONCE, PackedFeatures
from models.metrics.predict import Prediction, interpolate_unseen
from models.metrics.smoothing import moving_mean
from models.regions.soft_labels import region_centres
from models.regions.zero_shot import (
    UNMATCHED,
    Moments,
    Pair,
    RegionPrototypes,
    ZeroShotSettings,
    barycentre,
    cosines,
)


def predict_zero_shot(
    packed: PackedFeatures, regions: RegionPrototypes, settings: ZeroShotSettings
) -> Prediction:
    """Return V and A of every row from the texts alone, clamped.

    Rows without a face are interpolated in time, as those of heads are; a clip without any gets the
    wanted mean.
    """
    raw = barycentres(region_cosines(packed, regions), regions, settings.scale)
    seen = packed[regions.stream].valid.cpu().numpy()
    va = settings.match(smooth_seen(raw, seen, packed, settings.width_s))
    filled = interpolate_unseen(va, seen, packed)
    va = np.where(np.isnan(filled.va), settings.wanted.mean, filled.va)
    return replace(filled, va=np.clip(va, -1, 1))


def match_moments(
    packed: PackedFeatures, regions: RegionPrototypes, settings: ZeroShotSettings, wanted: Moments
) -> ZeroShotSettings:
    """Return the settings that give the rows with a face these moments, all clips together."""
    raw = barycentres(region_cosines(packed, regions), regions, settings.scale)
    seen = packed[regions.stream].valid.cpu().numpy()
    smoothed = smooth_seen(raw, seen, packed, settings.width_s)[seen]
    found = Moments.of(smoothed) if len(smoothed) else UNMATCHED
    return replace(settings, found=found, wanted=wanted)


def region_cosines(packed: PackedFeatures, regions: RegionPrototypes) -> Float[Tensor, "N R"]:
    """Return the cosines of every row with the prototypes, on the device of the features."""
    prototypes = regions.prototypes.to(packed.stored_on)
    parts = [
        cosines(packed.embeddings(regions.stream, rows).float(), prototypes)
        for start in range(0, len(packed.time_s), ROWS_AT_ONCE)
        for rows in (slice(start, start + ROWS_AT_ONCE),)
    ]
    return torch.cat(parts)


def barycentres(
    similarity: Float[Tensor, "N R"], regions: RegionPrototypes, scale: Pair
) -> Float64[np.ndarray, "N 2"]:
    """Return the barycentre of each row, not smoothed; of no meaning in rows without a face."""
    device = similarity.device
    centres, factors = region_centres(regions.grid).to(device), torch.tensor(scale, device=device)
    return barycentre(similarity, centres, factors).double().cpu().numpy()


def smooth_seen(
    va: Float64[np.ndarray, "N 2"],
    seen: Bool[np.ndarray, "N"],
    packed: PackedFeatures,
    width_s: Pair,
    *,
    trailing: bool = False,
) -> Float64[np.ndarray, "N 2"]:
    """Return the moving mean over the seen rows of each clip; NaN in the other rows.

    With `trailing` it is over a row and the rows before it.
    """
    smoothed = np.full_like(va, np.nan)
    for _, span in packed.spans():
        rows = np.flatnonzero(seen[span]) + span.start
        for column, each_s in enumerate(width_s):
            smoothed[rows, column] = moving_mean(
                va[rows, column], packed.time_s[rows], each_s, trailing=trailing
            )
    return smoothed
