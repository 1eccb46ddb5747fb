"""How busy each stage of an extraction is, and how full the queue before the encoder."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Stage = Literal["decode", "prepare", "hold", "starve", "encode", "write"]
"""Readers wait for what decodes; they resize, or make spectrograms; they wait for room in the
queue. The encoder waits for the queue; it works. Records are written."""

BUSY = 0.8  # an encoder that works so much of the time is what sets the pace


class StageTimer:
    """Seconds by stage, summed over all threads that are at it."""

    def __init__(self, queue_size: int) -> None:
        self.queue_size = queue_size
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """By stage."""
        self.encode_s: defaultdict[str, float] = defaultdict(float)
        """Of `encode`, by feature set."""
        self._depths = self._n_depths = 0
        self._began_s = time.monotonic()
        self._lock = threading.Lock()

    @contextmanager
    def at(self, stage: Stage, feature_set: str | None = None) -> Iterator[None]:
        """Count the time within for a stage."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.add(stage, time.monotonic() - began_s, feature_set)

    def add(self, stage: Stage, seconds: float, feature_set: str | None = None) -> None:
        """Count so much more."""
        with self._lock:
            self.seconds[stage] += seconds
            if feature_set:
                self.encode_s[feature_set] += seconds

    def note_depth(self, n_waiting: int) -> None:
        """Count how many pieces wait in the queue as one is taken."""
        self._depths += n_waiting
        self._n_depths += 1

    @property
    def wall_s(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._began_s

    @property
    def mean_depth(self) -> float:
        """Pieces in the queue, on average."""
        return self._depths / self._n_depths if self._n_depths else 0.0

    def described(self) -> str:
        """One line for a log: the stages, and which of them sets the pace."""
        wall_s = self.wall_s
        listed = ", ".join(
            f"{name} {self.seconds[stage]:.1f} s"
            for stage, name in (
                ("decode", "decoding"),
                ("prepare", "preparing"),
                ("encode", "encoding"),
                ("write", "writing"),
            )
        )
        return (
            f"stages, in {wall_s:.1f} s: {listed}; the encoder waited {self.seconds['starve']:.1f} "
            f"s, its readers {self.seconds['hold']:.1f} s; {self.mean_depth:.1f} of "
            f"{self.queue_size} places in the queue were taken: {self._pace(wall_s)}"
        )

    def _pace(self, wall_s: float) -> str:
        if self.seconds["encode"] >= BUSY * wall_s:
            return "the encoder sets the pace"
        if self.seconds["decode"] >= self.seconds["prepare"]:
            return "decoding sets the pace (more readers may help)"
        return "preparing sets the pace (more readers may help)"
