"""What the training of both small encoders shares: the rate's course, and the order of rows."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64

WARM_UP = 0.08  # share of the steps over which the rate rises
WEIGHT_DECAY = 0.02
HELD_OUT = 0.08  # share of the chunks, hence of the subjects, that are only measured on


def schedule(optimiser: torch.optim.Optimizer, n_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A rate that rises over the first steps and falls to nothing as a cosine."""

    def share(step: int) -> float:
        rise = min(1.0, (step + 1) / (WARM_UP * n_steps))
        return rise * 0.5 * (1 + math.cos(math.pi * step / n_steps))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, share)


def batches(rng: np.random.Generator, n_rows: int, size: int) -> Iterator[Int64[np.ndarray, "B"]]:
    """The rows in random order, in full batches."""
    order = rng.permutation(n_rows)
    for start in range(0, n_rows - size + 1, size):
        yield order[start : start + size]
