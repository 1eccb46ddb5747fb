"""Passes over the windows of a training, which can go on in the middle of one."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from models.data.batch import Batch, Targets
from models.data.batches import Example, shuffled_batches
from models.data.mixup import mixup
from models.data.packed import PackedFeatures
from models.data.set_weights import draw_windows, windows_of_sets
from models.data.stream_dropout import drop_streams
from models.data.windows import Windows
from models.heads.config import HeadConfig
from models.heads.windows import head_windows
from models.training.config import TrainConfig


class Streams(NamedTuple):
    """What follows the seed of a training for each use of random numbers, so that all differ."""

    shuffle: tuple[int, ...]
    mixup: int
    dropout: int


States = Mapping[str, Mapping[str, Any]]
"""The states of numpy's generators, by their use."""
LABELLED, UNLABELLED = Streams((), 1, 4), Streams((2,), 3, 5)
OF_SETS = 6


class Passes:
    """Batches of all windows in random order, again and again, mixed and with streams dropped."""

    def __init__(
        self, packed: PackedFeatures, windows: Windows, config: TrainConfig, streams: Streams
    ) -> None:
        self._packed, self._windows, self._config = packed, windows, config
        seed = config.seed
        order = (seed, *streams.shuffle) if streams.shuffle else seed
        self._of_order = {
            "shuffle": np.random.default_rng(order),
            "sets": np.random.default_rng((seed, OF_SETS)),
        }
        self._of_windows = {
            "mixup": np.random.default_rng((seed, streams.mixup)),
            "dropout": np.random.default_rng((seed, streams.dropout)),
        }
        self._began: States = {}
        """The states of the generators of the order when the pass began."""
        self._n_done = 0
        weights = config.set_weights
        self._counts = windows_of_sets(packed, windows, weights) if weights else None

    @property
    def n_windows(self) -> int:
        """Windows of a pass."""
        return n_windows(self._packed, self._windows, self._config.set_weights)

    def one_pass(self) -> Iterator[Example]:
        """Yield the batches of one pass, or what is left of the one that was restored."""
        n_done = self._n_done
        if n_done:
            _restore(self._of_order, self._began)
        else:
            self._began = _states(self._of_order)
        config, windows = self._config, self._windows
        if self._counts:
            windows = draw_windows(windows, self._counts, self._of_order["sets"])
        batches = shuffled_batches(
            self._packed, windows, self._of_order["shuffle"], config.batch_size
        )
        for batch, targets in islice(batches, n_done, None):
            if config.drop_last and len(targets.va) < config.batch_size:
                continue  # only the last one is smaller
            self._n_done += 1
            yield self._augmented(batch, targets)
        self._n_done = 0

    def without_end(self) -> Iterator[Example]:
        """Yield batches, pass after pass."""
        while True:
            yield from self.one_pass()

    def _augmented(self, batch: Batch, targets: Targets) -> Example:
        config = self._config
        if config.mixup:
            batch, targets = mixup(batch, targets, self._of_windows["mixup"], config.mixup)
        if config.stream_dropout:
            draw = self._of_windows["dropout"]
            batch, targets = drop_streams(batch, targets, draw, config.stream_dropout)
        return batch, targets

    def state(self) -> str:
        """Return where the passes are, as JSON."""
        began = self._began if self._n_done else _states(self._of_order)
        return json.dumps(
            {"order": began, "windows": _states(self._of_windows), "n_done": self._n_done}
        )

    def restore(self, state: str) -> None:
        """Go on from a state of passes over the same windows."""
        found = json.loads(state)
        _restore(self._of_order, found["order"])
        _restore(self._of_windows, found["windows"])
        self._began, self._n_done = found["order"], found["n_done"]


def _states(generators: Mapping[str, np.random.Generator]) -> States:
    return {name: each.bit_generator.state for name, each in generators.items()}


def _restore(generators: Mapping[str, np.random.Generator], states: States) -> None:
    for name, each in generators.items():
        each.bit_generator.state = states[name]


def n_windows(train: PackedFeatures, windows: Windows, weights: Mapping[str, float]) -> int:
    """Return how many windows an epoch has, some of them more than once if sets have weights."""
    if not weights:
        return len(windows)
    return sum(n for _, n in windows_of_sets(train, windows, weights))


def training_windows(packed: PackedFeatures, head: HeadConfig, config: TrainConfig) -> Windows:
    """Return the windows of one epoch."""
    return head_windows(
        packed,
        head,
        size=config.window,
        stride=config.stride,
        causal_stride=config.causal_stride,
        causal_stride_s=config.causal_stride_s,
        causal_start_s=config.causal_start_s,
    )
