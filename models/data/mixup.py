"""Mixup (Zhang et al., 2018): weighted means of two windows, against overfitting to subjects."""

from functools import reduce
from operator import or_

import numpy as np
import torch
from torch import Tensor

from models.data.batch import Batch, StreamBatch, Targets


def mixup(
    batch: Batch, targets: Targets, draws: np.random.Generator, alpha: float
) -> tuple[Batch, Targets]:
    """Mix each window with another one of the batch, both embeddings and labels.

    The batch has one weight, drawn from Beta(alpha, alpha). A row is valid if it is valid in both
    windows; its label must also be valid in both, and the row in at least one stream.
    """
    share = float(draws.beta(alpha, alpha))
    # non-blocking is safe here: pageable memory is staged before the call returns
    partner = torch.from_numpy(draws.permutation(len(targets.va))).to(
        batch.device, non_blocking=True
    )

    def between(x: Tensor, valid: Tensor) -> Tensor:
        return (share * x + (1 - share) * x[partner]) * valid.unsqueeze(-1)

    streams = {}
    for name, stream in batch.streams.items():
        valid = stream.valid & stream.valid[partner]
        streams[name] = StreamBatch(between(stream.values, valid), valid)
    valid = targets.valid & targets.valid[partner]
    n = valid.shape[1]  # the predicted rows are the last ones: all of a dense window
    valid = valid & reduce(or_, (stream.valid[:, -n:] for stream in streams.values()))
    return Batch(streams), Targets(between(targets.va, valid), valid)
