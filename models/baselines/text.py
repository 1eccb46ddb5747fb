"""The baseline `text`: V and A from the texts of the regions alone; nothing is trained."""

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field

from models.baselines.base import BaselineConfig, Folds, folds_by_subject
from models.baselines.training_rows import subjects_of_rows, training_rows
from models.data.packed import PackedFeatures
from models.metrics.ccc import Concordance
from models.metrics.smoothing import WINDOWS_S
from models.metrics.zero_shot import barycentres, region_cosines, smooth_seen
from models.regions.prompts import FixedPrompts
from models.regions.zero_shot import Moments, RegionPrototypes, ZeroShotSettings

SCALES = (5.0, 10.0, 20.0, 40.0, 100.0)
"""The candidates, from the smoothest weights of the regions to CLIP's own largest scale."""


class TextConfig(BaselineConfig):
    """The barycentre of the regions by similarity to their texts, smoothed and matched.

    Mean and deviation are matched to those of the training labels.
    """

    kind: Literal["text"] = "text"
    prompts: FixedPrompts = FixedPrompts()
    """The texts that describe the regions."""
    scale: Annotated[float, Field(gt=0)] | None = None
    """Factor of the cosines; null: chosen for each of V and A by folds over training subjects."""
    width_s: Annotated[float, Field(ge=0, le=600)] | None = None
    """Span of the moving mean; null: chosen for each of V and A by folds over subjects."""


def fit_text(
    train: PackedFeatures,
    subject_by_clip: Mapping[str, str],
    regions: RegionPrototypes,
    *,
    scale: float | None = None,
    width_s: float | None = None,
    trailing: bool = False,
) -> ZeroShotSettings:
    """Return the settings with which the texts agree best with the labels of training rows.

    Scale and width are chosen for each dimension by the CCC over folds by subject, each fold
    matched by the moments of the others; the first of equals. The moments are those of all
    annotated rows with a face. Raises `InputError` if there is no such row, or if there is
    something to choose and only one person.
    """
    chosen = training_rows(train, (regions.stream,))
    truth = train.va.cpu().numpy()[chosen]
    similarity = region_cosines(train, regions)
    seen = train[regions.stream].valid.cpu().numpy()
    candidates: dict[tuple[float, float], Float64[np.ndarray, "N 2"]] = {}
    for factor in SCALES if scale is None else (scale,):
        raw = barycentres(similarity, regions, (factor, factor))
        for span_s in WINDOWS_S if width_s is None else (width_s,):
            smoothed = smooth_seen(raw, seen, train, (span_s, span_s), trailing=trailing)
            candidates[factor, span_s] = smoothed[chosen]
    best = [next(iter(candidates))] * 2
    if len(candidates) > 1:
        folds = folds_by_subject(subjects_of_rows(train, subject_by_clip)[chosen])
        scores = {name: _scores(va, truth, folds) for name, va in candidates.items()}
        best = [max(scores, key=lambda name: scores[name][k]) for k in range(2)]
    found = np.stack([candidates[name][:, k] for k, name in enumerate(best)], axis=1)
    return ZeroShotSettings(
        scale=(best[0][0], best[1][0]),
        width_s=(best[0][1], best[1][1]),
        found=Moments.of(found),
        wanted=Moments.of(truth),
    )


def _scores(
    va: Float64[np.ndarray, "N 2"], truth: Float64[np.ndarray, "N 2"], folds: Folds
) -> tuple[float, float]:
    """The CCC of V and of A over all folds, each matched by the moments of the other folds."""
    sums = [Concordance(), Concordance()]
    for fitted, held_out in folds:
        settings = ZeroShotSettings(found=Moments.of(va[fitted]), wanted=Moments.of(truth[fitted]))
        matched = settings.match(va[held_out])
        for k in range(2):
            sums[k] += Concordance.of(truth[held_out, k], matched[:, k])
    return sums[0].ccc(), sums[1].ccc()
