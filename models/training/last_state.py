"""The state of a training that has not ended, so that it goes on as if it had not been killed."""

import io
import logging
import pickle
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from features.system.files import write_atomic
from models.training.config import EpochResult

DAMAGED = (RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.PickleError, UserWarning)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LastState:
    """All that determines how a training continues."""

    learned: dict[str, dict[str, Any]]
    """Of the head, the optimiser and the schedule; what is frozen is left out, as in the next."""
    kept: dict[str, Tensor]
    """The weights of the epoch that is kept so far."""
    random: dict[str, Tensor]
    """The states of torch's generators."""
    passes: Sequence[str]
    """The positions in the passes over the windows."""
    epochs: Sequence[EpochResult]
    """Those that have ended."""
    step: int
    """Steps of the epoch that has begun."""
    n_steps: int
    """Steps of an epoch."""
    seconds: float
    """How long that epoch has taken."""
    sums: dict[str, Tensor]
    """Those of its steps, see `EpochSums`."""


@dataclass
class SavedState:
    """The file of the last state; one of another training is not read."""

    path: Path
    key: str
    """Of the run: everything that determines its weights."""
    every_s: float = 600.0
    """Seconds between two states within an epoch."""
    is_new: bool = False
    """Whether a state that is there is left aside."""
    on_write: Callable[[Sequence[EpochResult]], None] | None = None
    """Called with the epochs that have ended, whenever a state is written."""
    found: LastState | None = None
    """The state that the training went on from."""
    written: LastState | None = None
    """The state that was written last."""
    _written_at: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Return whether the last state is older than `every_s`."""
        return time.monotonic() - self._written_at >= self.every_s

    def write(self, state: LastState) -> None:
        """Write the state, whole or not at all."""
        fields = {name: getattr(state, name) for name in LastState.__dataclass_fields__}
        fields["epochs"] = [asdict(each) for each in state.epochs]
        content = io.BytesIO()
        torch.save({"key": self.key, **fields}, content)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path, content.getvalue())
        self.written = state
        self._written_at = time.monotonic()
        if self.on_write:
            self.on_write(state.epochs)

    def read(self) -> LastState | None:
        """Return the state; None if there is none of this training, or it cannot be read."""
        if self.is_new or not self.path.is_file():
            return None
        try:
            with warnings.catch_warnings(
                action="error"
            ):  # which torch gives about what is no state
                fields = torch.load(self.path, map_location="cpu", weights_only=True)
            if fields.pop("key") != self.key:
                return None
            fields["epochs"] = [EpochResult(**each) for each in fields["epochs"]]
            self.found = LastState(**fields)
        except DAMAGED as e:
            log.warning("%s cannot be read (%s): the training begins anew", self.path, e)
        return self.found

    def kept(self) -> str:
        """Return in words what a training that is interrupted now leaves behind."""
        last = self.written or self.found or self.read()
        if last is None:
            return "no epoch has ended and no state is saved: the same command begins anew"
        n = len(last.epochs)
        ended = "1 epoch has ended" if n == 1 else f"{n} epochs have ended"
        after = (
            f"step {last.step} of {last.n_steps} of epoch {n + 1}" if last.step else f"epoch {n}"
        )
        again = "begins anew" if self.is_new else "goes on from there"
        what = "the same command, with force=true," if self.is_new else "the same command"
        return f"{ended}; the state after {after} is saved in {self.path}: {what} {again}"

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Context manager in which a `KeyboardInterrupt` is given the words of `kept`."""
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self.kept()) from None


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of torch's generators: that of the CPU, and that of a GPU."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Set torch's generators to these states."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
