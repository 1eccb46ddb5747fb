"""Progress of a stage: one description of each step, shown as bars on a terminal or logged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from logging import Logger, LoggerAdapter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from features.printable import printable
from flows.console import plain_console
from flows.logs import is_json

if TYPE_CHECKING:  # these load torch, which a misspelt key need not wait for (test_main.py)
    from features.extraction.outcome import Outcome
    from models.baselines import AnyBaselineConfig
    from models.prediction.progress import VideoProgress
    from models.stages.predict import VideoResult
    from models.stages.train_head import TrainResult
    from models.training.config import EpochResult
    from models.training.pace import TrainingStep

LOG_CLIPS_EVERY_S = 10.0
LOG_STEPS_EVERY_S = 30.0

Hooks = dict[str, Callable[..., None]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a stage that has ended."""

    what: str
    """What is counted, such as "epoch"."""
    number: int
    """Counts from 1."""
    detail: str
    total: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    """For a program that reads the log."""


def step_hooks(on_step: Callable[[Step], None]) -> Hooks:
    """The hooks of every stage; each describes what it is called with to `on_step`."""
    counts: Counter[str] = Counter()

    def count(what: str, total: int, detail: str) -> None:
        counts[what] += 1
        fields = {"done": counts[what], "total": total}
        on_step(Step(what, counts[what], detail, total, fields))

    def on_epoch(epoch: EpochResult) -> None:
        number, detail = epoch.index + 1, f"val mean CCC {epoch.ccc_mean:.3f}"
        fields = {"epoch": number, "loss": epoch.loss, "ccc_mean": epoch.ccc_mean}
        on_step(Step("epoch", number, detail, fields=fields))

    def on_training_step(step: TrainingStep) -> None:
        left = _clock(step.left_s)
        detail = (
            f"epoch {step.epoch} of {step.n_epochs}, {step.steps_per_s:.3g} steps/s, {left} left"
        )
        fields = {"epoch": step.epoch, "done": step.step, "total": step.n_steps}
        on_step(Step("step", step.step, detail, step.n_steps, fields))

    def on_baseline(baseline: AnyBaselineConfig, total: int) -> None:
        from flows.messages import baseline_name

        count("baseline", total, baseline_name(baseline))

    def on_outcome(outcome: Outcome, total: int) -> None:
        count("outcome", total, f"{outcome.clip} {outcome.state}")

    def on_member(result: TrainResult, total: int) -> None:
        count("member", total, f"{result.run.name} {result.state}")

    def on_case(case: str, total: int) -> None:
        count("training", total, case)

    def on_video(result: VideoResult, total: int) -> None:
        rate = f", {result.n_frames / result.seconds:.0f} frames/s" if result.seconds else ""
        frames = f", {result.n_frames} frames" if result.n_frames else ""
        count("video", total, f"{result.name} {result.state}{frames}{rate}")

    def on_progress(video: VideoProgress) -> None:
        left = "" if video.left_s is None else f", {_clock(video.left_s)} left"
        detail = f"{video.name} ({video.what}): {video.frames_per_s:.0f} frames/s{left}"
        fields = {"video": video.name, "done": video.n_frames, "total": video.total}
        on_step(Step("frame", video.n_frames, detail, video.total, fields))

    hooks = (
        on_epoch,
        on_training_step,
        on_baseline,
        on_outcome,
        on_member,
        on_case,
        on_video,
        on_progress,
    )
    return {hook.__name__: hook for hook in hooks}


def _clock(seconds: float) -> str:
    """A duration as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def terminal_hooks(console: Console, steps_every_s: float = LOG_STEPS_EVERY_S) -> Iterator[Hooks]:
    """Hooks that show a bar for each kind of step.

    If the console is no terminal, they print a step of a training every `steps_every_s` instead,
    and nothing else.
    """
    if not console.is_terminal:
        is_due = _Due({"step": steps_every_s})

        def print_step(step: Step) -> None:
            if step.what == "step" and is_due(step.what):
                console.print(printable(_line(step), layout=""))

        yield step_hooks(print_step)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks: dict[str, Any] = {}

        def show(step: Step) -> None:
            if step.what not in tasks:
                tasks[step.what] = bars.add_task(step.what, total=step.total, detail="")
            task = tasks[step.what]
            detail = printable(step.detail, layout="")
            bars.update(task, completed=step.number, total=step.total, detail=detail)

        yield step_hooks(show)


def log_hooks(
    log: Logger | LoggerAdapter[Any],
    clips_every_s: float = LOG_CLIPS_EVERY_S,
    steps_every_s: float = LOG_STEPS_EVERY_S,
) -> Hooks:
    """Hooks that log each step, but some kinds only now and then.

    Clips and frames are logged every `clips_every_s`, steps of a training every `steps_every_s`,
    and the last clip. The extraction itself logs how each clip ended.
    """
    is_due = _Due({"outcome": clips_every_s, "frame": clips_every_s, "step": steps_every_s})

    def write(step: Step) -> None:
        is_last = step.what == "outcome" and step.number == step.total
        if not is_due(step.what) and not is_last:
            return
        words = _line(step)
        if step.what == "outcome":
            words = f"{step.number} of {step.total} outcomes (clips x feature sets)"
        log.info(words, extra=step.fields)

    return step_hooks(write)


def _line(step: Step) -> str:
    """A step as one line of a log."""
    of_total = "" if step.total is None else f" of {step.total}"
    return f"{step.what} {step.number}{of_total}: {step.detail}"


class _Due:
    """Whether it is time to log a kind of step: every so many seconds, or always."""

    def __init__(self, every_s: dict[str, float]) -> None:
        self._every_s = every_s
        now_s = time.monotonic()
        self._next_s = {what: now_s + each for what, each in every_s.items()}

    def __call__(self, what: str) -> bool:
        if what not in self._next_s:
            return True
        now_s = time.monotonic()
        if now_s < self._next_s[what]:
            return False
        self._next_s[what] = now_s + self._every_s[what]
        return True


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A hook `(done, total)` for a command that is no stage, shown as a bar on a terminal."""
    console = plain_console(stderr=True)
    hidden = is_json() or not console.is_terminal
    with Progress(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(description, total=None)

        def on_step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield on_step
