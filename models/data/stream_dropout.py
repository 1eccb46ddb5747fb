"""Whole streams masked at random, so that a head works without a camera or a microphone."""

from functools import reduce
from operator import or_

import numpy as np
import torch
from torch import Tensor

from models.data.batch import Batch, StreamBatch, Targets


def drop_streams(
    batch: Batch, targets: Targets, draws: np.random.Generator, probability: float
) -> tuple[Batch, Targets]:
    """Mask one stream, drawn for each window, with a probability.

    A masked stream is 0 and not valid. A label stays valid if another stream has its row.
    """
    n_windows, n_streams = len(targets.va), len(batch.streams)
    is_dropped = draws.random(n_windows) < probability
    drawn = np.where(is_dropped, draws.integers(n_streams, size=n_windows), n_streams)
    # non-blocking is safe here: pageable memory is staged before the call returns
    dropped = torch.from_numpy(drawn).to(batch.device, non_blocking=True)
    streams = {
        name: _masked(stream, dropped != number)
        for number, (name, stream) in enumerate(batch.streams.items())
    }
    n = targets.valid.shape[1]  # the predicted rows are the last ones: all of a dense window
    valid = targets.valid & reduce(or_, (stream.valid[:, -n:] for stream in streams.values()))
    return Batch(streams), Targets(targets.va * valid.unsqueeze(-1), valid)


def _masked(stream: StreamBatch, kept: Tensor) -> StreamBatch:
    """The stream in the windows that are kept; `kept` is (B,)."""
    return StreamBatch(stream.values * kept[:, None, None], stream.valid & kept[:, None])
