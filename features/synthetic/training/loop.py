"""Learning rate and batches, for the training of both small encoders."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64

WARM_UP = 0.08  # share of the steps in which the learning rate rises
WEIGHT_DECAY = 0.02
HELD_OUT = 0.08  # share of the chunks, hence of the subjects, for evaluation


def schedule(optimiser: torch.optim.Optimizer, n_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A learning rate that rises linearly, then falls to 0 as a cosine."""

    def share(step: int) -> float:
        rise = min(1.0, (step + 1) / (WARM_UP * n_steps))
        return rise * 0.5 * (1 + math.cos(math.pi * step / n_steps))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, share)


def batches(rng: np.random.Generator, n_rows: int, size: int) -> Iterator[Int64[np.ndarray, "B"]]:
    """Yield the row indices of full batches, in random order."""
    order = rng.permutation(n_rows)
    for start in range(0, n_rows - size + 1, size):
        yield order[start : start + size]
