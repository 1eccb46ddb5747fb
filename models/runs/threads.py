"""The number of torch's threads, and its random numbers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from features.system.parallel import n_cores
from models.training.config import TrainConfig


@contextmanager
def limit_threads(n_threads: int | None) -> Iterator[None]:
    """Let torch use `n_threads` threads within the context; None keeps the current number."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(seed: int, threads: int | None) -> Iterator[None]:
    """Seed torch and let it use `threads` threads within the context."""
    with torch.random.fork_rng(), limit_threads(threads):
        torch.manual_seed(seed)
        yield


def share_cores(train: TrainConfig, n_at_once: int) -> TrainConfig:
    """Return the config with an equal share of the cores as `threads`, unless it sets them."""
    threads = train.threads or max(1, n_cores() // n_at_once)
    return train.model_copy(update={"threads": threads})
