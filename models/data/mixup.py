"""Mixup (Zhang et al., 2018): weighted means of two windows, against overfitting to subjects."""

import numpy as np
import torch
from torch import Tensor

from models.data.batch import Batch, Targets


def mixup(
    batch: Batch, targets: Targets, draws: np.random.Generator, alpha: float
) -> tuple[Batch, Targets]:
    """Mix each window with another one of the batch, both embeddings and labels.

    The batch has one weight, drawn from Beta(alpha, alpha). A row is valid if it is valid in both
    windows; its label must also be valid in both, and the row in at least one modality.
    """
    share = float(draws.beta(alpha, alpha))
    # non-blocking is safe here: pageable memory is staged before the call returns
    partner = torch.from_numpy(draws.permutation(len(batch.visual))).to(
        batch.visual.device, non_blocking=True
    )

    def between(x: Tensor, valid: Tensor) -> Tensor:
        return (share * x + (1 - share) * x[partner]) * valid.unsqueeze(-1)

    visual_valid = batch.visual_valid & batch.visual_valid[partner]
    audio_valid = batch.audio_valid & batch.audio_valid[partner]
    valid = targets.valid & targets.valid[partner]
    n = valid.shape[1]  # the predicted rows are the last ones: all of a dense window
    valid = valid & (visual_valid[:, -n:] | audio_valid[:, -n:])
    return (
        Batch(
            between(batch.visual, visual_valid),
            visual_valid,
            between(batch.audio, audio_valid),
            audio_valid,
        ),
        Targets(between(targets.va, valid), valid),
    )
