"""How busy each stage of an extraction is, and how full the queue before the encoder is."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

Stage = Literal["decode", "prepare", "queue_full", "queue_empty", "encode", "write"]
"""Readers wait for the decoding process, prepare items (resizing, spectrograms), and wait for room
in the queue. The encoder waits for items, and encodes. Writers publish records."""

BUSY = 0.8  # share of the time from which on the encoder is called the bottleneck


class StageTimer:
    """Seconds by stage, summed over threads; `clock` returns seconds."""

    def __init__(self, queue_size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.queue_size = queue_size
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """Seconds by stage."""
        self.encode_s: defaultdict[str, float] = defaultdict(float)
        """Seconds of `encode` by feature set."""
        self._depth_sum = self._n_depths = 0
        self._clock = clock
        self._started_s = clock()
        self._lock = threading.Lock()

    @contextmanager
    def measure(self, stage: Stage, feature_set: str | None = None) -> Iterator[None]:
        """Add the time spent in the `with` block to a stage."""
        started_s = self._clock()
        try:
            yield
        finally:
            self.add(stage, self._clock() - started_s, feature_set)

    def add(self, stage: Stage, seconds: float, feature_set: str | None = None) -> None:
        """Add seconds to a stage, and to a feature set if one is given."""
        with self._lock:
            self.seconds[stage] += seconds
            if feature_set:
                self.encode_s[feature_set] += seconds

    def add_depth(self, n_items: int) -> None:
        """Count the items that are in the queue as one is taken."""
        self._depth_sum += n_items
        self._n_depths += 1

    @property
    def wall_s(self) -> float:
        """Seconds since the timer was made."""
        return self._clock() - self._started_s

    def summary(self) -> str:
        """The time of each stage, the mean length of the queue, and the bottleneck, in one line."""
        wall_s, seconds = self.wall_s, self.seconds
        if seconds["encode"] >= BUSY * wall_s:
            bottleneck = "the encoder sets the pace"
        else:
            slower = "decoding" if seconds["decode"] >= seconds["prepare"] else "preparing"
            bottleneck = f"{slower} sets the pace (more readers may help)"
        return (
            f"stages, in {wall_s:.1f} s: decoding {seconds['decode']:.1f} s, "
            f"preparing {seconds['prepare']:.1f} s, encoding {seconds['encode']:.1f} s, "
            f"writing {seconds['write']:.1f} s; the encoder waited "
            f"{seconds['queue_empty']:.1f} s, its readers {seconds['queue_full']:.1f} s; "
            f"{self._depth_sum / max(1, self._n_depths):.1f} of {self.queue_size} places in the "
            f"queue were taken: {bottleneck}"
        )
