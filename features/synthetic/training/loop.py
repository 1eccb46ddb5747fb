"""The training loop of both small encoders: batches, steps and learning rate."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

log = logging.getLogger(__name__)

WARM_UP = 0.08  # share of the steps in which the learning rate rises
WEIGHT_DECAY = 0.02
HELD_OUT = 0.08  # share of the chunks, hence of the subjects, for evaluation


def fit(
    name: str,
    optimiser: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    loss_of: Callable[[Int64[np.ndarray, "B"]], Tensor],
    *,
    n_rows: int,
    batch: int,
    n_epochs: int,
    rng: np.random.Generator,
) -> None:
    """Train `parameters` on batches of rows, and log the mean loss of each epoch."""
    rates = schedule(optimiser, n_epochs * (n_rows // batch))
    for epoch in range(n_epochs):
        losses = []
        for rows in batches(rng, n_rows, batch):
            loss = loss_of(rows)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            rates.step()
            losses.append(loss.item())
        log.info("%s epoch %d: loss %.4f", name, epoch + 1, float(np.mean(losses)))


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
