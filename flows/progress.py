"""How far something is, on a terminal; apart from what stages say, which loads what they need."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flows.logs import is_json, log

if TYPE_CHECKING:  # `vaflow verify` and `stats` show a bar too, and need no torch (test_main.py)
    from features.extraction.outcome import Outcome
    from models.baselines import AnyBaselineConfig
    from models.stages.train_head import TrainResult
    from models.training.config import EpochResult

PROGRESS_EVERY_S = 10.0


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A hook that shows how many of a total are done."""
    console = Console(stderr=True)
    hidden = is_json() or not console.is_terminal
    with Progress(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=None)

        def on_step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield on_step


@contextmanager
def terminal_hooks(console: Console) -> Iterator[dict[str, Callable[..., None]]]:
    """Hooks for a stage that show how far it is; on a terminal as bars that go away."""
    from flows.messages import baseline_name  # loads every stage

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        extracting = bars.add_task("extract-features", total=None, visible=False, detail="")
        training = bars.add_task("train-head", total=None, visible=False, detail="")
        ablating = bars.add_task("ablate", total=None, visible=False, detail="")
        scoring = bars.add_task("baselines", completed=-1, total=None, visible=False, detail="")
        members = bars.add_task("train-ensemble", total=None, visible=False, detail="")

        def on_outcome(outcome: "Outcome", total: int) -> None:
            detail = f"{outcome.clip} {outcome.state}"
            bars.update(extracting, advance=1, total=total, visible=True, detail=detail)

        def on_epoch(epoch: "EpochResult") -> None:
            detail = f"val mean CCC {epoch.ccc_mean:.3f}"
            bars.update(training, completed=epoch.index + 1, visible=True, detail=detail)

        def on_baseline(baseline: "AnyBaselineConfig", total: int) -> None:
            detail = baseline_name(baseline)
            bars.update(scoring, advance=1, total=total, visible=True, detail=detail)

        def on_case(case: str, total: int) -> None:
            bars.update(ablating, advance=1, total=total, visible=True, detail=case)

        def on_member(result: "TrainResult", total: int) -> None:
            detail = f"{result.run.name} {result.state}"
            bars.update(members, advance=1, total=total, visible=True, detail=detail)

        yield {
            "on_outcome": on_outcome,
            "on_epoch": on_epoch,
            "on_baseline": on_baseline,
            "on_member": on_member,
            "on_case": on_case,
        }


def log_hooks(every_s: float = PROGRESS_EVERY_S) -> dict[str, Callable[..., None]]:
    """Hooks for a stage that log how far it is; clips each `every_s`, and the last.

    How each clip ends is logged where it ends (features/extraction.py).
    """
    n_done: Counter[str] = Counter()
    next_s = time.monotonic() + every_s

    def on_outcome(outcome: "Outcome", total: int) -> None:
        nonlocal next_s
        n_done["outcome"] += 1
        done = n_done["outcome"]
        if done == total or time.monotonic() >= next_s:
            next_s = time.monotonic() + every_s
            fields = {"done": done, "total": total}
            log.info("%d of %d outcomes (clips x feature sets)", done, total, extra=fields)

    def on_epoch(epoch: "EpochResult") -> None:
        fields = {"epoch": epoch.index + 1, "loss": epoch.loss, "ccc_mean": epoch.ccc_mean}
        log.info("epoch %d: val mean CCC %.3f", epoch.index + 1, epoch.ccc_mean, extra=fields)

    def on_step(what: str) -> Callable[[object, int], None]:
        def hook(_: object, total: int) -> None:
            n_done[what] += 1
            done = n_done[what]
            log.info("%s %d of %d", what, done, total, extra={"done": done, "total": total})

        return hook

    return {
        "on_outcome": on_outcome,
        "on_epoch": on_epoch,
        "on_baseline": on_step("baseline"),
        "on_member": on_step("member"),
        "on_case": on_step("training"),
    }
