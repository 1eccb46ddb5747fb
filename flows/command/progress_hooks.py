"""Who hears of a stage while it runs: a terminal, a log, Prometheus."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from flows.command.prometheus import recording
from flows.logs import is_json
from flows.progress import log_hooks, terminal_hooks

log = logging.getLogger(__name__)


@contextmanager
def progress_hooks(stage: str, metrics: Path | None) -> Iterator[dict[str, Callable[..., None]]]:
    """Hooks for a stage: they show how far it is, as bars or in the log, and keep its metrics.

    A stage that raises within has failed. `InputError` or `VaflowError` where the metrics cannot
    be at their path.
    """
    with ExitStack() as stack:
        hooks: list[Mapping[str, Callable[..., None]]] = []
        if metrics:
            hooks.append(stack.enter_context(recording(metrics, stage)).hooks())
        if is_json():
            hooks.append(log_hooks())
        else:
            hooks.append(stack.enter_context(terminal_hooks(Console(stderr=True))))
        log.info("%s begins", stage, extra={"stage": stage})
        yield merge_hooks(hooks)


def merge_hooks(hooks: list[Mapping[str, Callable[..., None]]]) -> dict[str, Callable[..., None]]:
    """Hooks that each call all of the same name."""
    names = dict.fromkeys(name for each in hooks for name in each)
    return {name: _all_of([each[name] for each in hooks if name in each]) for name in names}


def _all_of(called: list[Callable[..., None]]) -> Callable[..., None]:
    def hook(*given: object) -> None:
        for each in called:
            each(*given)

    return hook
