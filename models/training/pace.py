"""How fast a training goes, and how long it may still take."""

import time
from collections.abc import Callable
from dataclasses import dataclass

EVERY_S = 0.5  # between two reports within an epoch


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """A step of a training that has ended."""

    epoch: int
    """Counts from 1, as does `step`."""
    n_epochs: int
    step: int
    n_steps: int
    """Steps of an epoch."""
    steps_per_s: float
    """In this epoch."""
    left_s: float
    """Until all epochs have ended, at this rate and with the scoring as long as the last one."""


@dataclass(slots=True)
class Pace:
    """Reports steps to `on_step`: the first and the last of an epoch, and one every half second."""

    n_epochs: int
    n_steps: int
    on_step: Callable[[TrainingStep], None] | None
    _epoch: int = 0
    _began_s: float = 0.0
    _first: int = 0
    _reported_s: float = 0.0
    _scoring_s: float = 0.0

    def begin(self, epoch: int, n_done: int) -> None:
        """Begin an epoch, of which some steps may have been done before."""
        self._epoch, self._first = epoch, n_done
        self._began_s, self._reported_s = time.monotonic(), -EVERY_S

    def ended_step(self, step: int) -> None:
        """Report a step if it is time for it."""
        now_s = time.monotonic()
        is_due = step == self.n_steps or now_s - self._reported_s >= EVERY_S
        if not self.on_step or not is_due:
            return
        self._reported_s = now_s
        step_s = (now_s - self._began_s) / (step - self._first)
        rest = self.n_steps - step + (self.n_epochs - self._epoch) * self.n_steps
        scorings = self.n_epochs - self._epoch + 1
        left_s = rest * step_s + scorings * self._scoring_s
        rate = 1 / step_s if step_s else 0.0
        self.on_step(TrainingStep(self._epoch, self.n_epochs, step, self.n_steps, rate, left_s))

    def scored(self, seconds: float) -> None:
        """Remember how long the scoring of an epoch took."""
        self._scoring_s = seconds
