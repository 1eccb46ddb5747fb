"""The number of torch's threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from features.system.parallel import n_cores
from models.training.config import TrainConfig


@contextmanager
def limit_threads(n_threads: int | None) -> Iterator[None]:
    """Within the context torch uses `n_threads` threads; None leaves the number as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share_cores(train: TrainConfig, n_at_once: int) -> TrainConfig:
    """The config with an equal share of the cores as `threads`, if it does not set them itself."""
    threads = train.threads or max(1, n_cores() // n_at_once)
    return train.model_copy(update={"threads": threads})
