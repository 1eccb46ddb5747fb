"""What region texts say of the training rows: what a text prior starts from, and texts alone."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from features.timeline import typical_step_s
from models.baselines.text import fit_text
from models.data.packed import PackedFeatures
from models.data.region_prototypes import read_regions
from models.data.splits import ClipGroups
from models.data.windows import N_VISUAL, ROUNDING_S, SPAN_S
from models.heads.config import HeadConfig
from models.nn.text_prior import N_ANCHORS, PriorStart
from models.regions.grid import Grid
from models.regions.prompts import FixedPrompts
from models.regions.zero_shot import RegionPrototypes, ZeroShotSettings
from models.runs.texts_alone import TextsAlone

CAUSAL_STEP_S = SPAN_S / N_VISUAL  # from row to row of a causal window


def prior_start(
    train: PackedFeatures,
    subject_by_clip: Mapping[str, str],
    prototypes: Float[Tensor, "R D"],
    grid: Grid,
    stream: str,
    *,
    is_causal: bool,
) -> PriorStart:
    """Return what the baseline `text` chooses with these prototypes, with its widths in rows.

    Causal windows get means over the rows before a row. Raises `InputError` as `fit_text` does.
    """
    regions = RegionPrototypes(prototypes, grid, stream)
    settings = fit_text(train, subject_by_clip, regions, trailing=is_causal)
    if is_causal:
        n_rows = [
            min(n_steps(width_s, CAUSAL_STEP_S) + 1, N_VISUAL) for width_s in settings.width_s
        ]
    else:
        step_s = float(np.median([typical_step_s(train.time_s[span]) for _, span in train.spans()]))
        n_rows = [2 * n_steps(width_s / 2, step_s) + 1 for width_s in settings.width_s]
    seen = np.flatnonzero(train[stream].valid.cpu().numpy())
    rows = seen[np.linspace(0, len(seen) - 1, N_ANCHORS).astype(np.int64)]
    index = torch.from_numpy(rows).to(train.stored_on)
    anchors = train.embeddings(stream, index).float().cpu()
    return PriorStart(settings, (n_rows[0], n_rows[1]), anchors)


def n_steps(reach_s: float, step_s: float) -> int:
    """Return how many rows lie within a reach on one side of a row, as in `moving_mean`."""
    return int((reach_s + ROUNDING_S) // step_s)


def texts_alone(clips: ClipGroups, head: HeadConfig, train: PackedFeatures) -> TextsAlone | None:
    """Return the zero-shot prediction by the texts of a head, matched to the training labels.

    Nothing is chosen: scale and width are the defaults of `zero-shot`. None if the head has no
    prompts, or no annotated training row has a face.
    """
    stream = head.text_stream
    if head.prompts is None or stream is None:
        return None
    if not (train.va_valid & train[stream].valid).any():
        return None
    prompts = FixedPrompts(texts=head.prompts.texts, control=head.prompts.control)
    regions = read_regions(clips.sets, train.clip_ids[0], prompts, stream)
    (scale, _), (width_s, _) = ZeroShotSettings().scale, ZeroShotSettings().width_s
    return TextsAlone(regions, fit_text(train, {}, regions, scale=scale, width_s=width_s))
