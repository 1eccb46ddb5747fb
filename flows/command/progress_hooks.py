"""The hooks of a stage that the command runs: progress on a terminal or in the log, and metrics."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.command.prometheus import recording
from flows.console import plain_console
from flows.logs import is_json
from flows.progress import Hooks, log_hooks, terminal_hooks

log = logging.getLogger(__name__)


@contextmanager
def progress_hooks(stage: str, metrics: Path | None) -> Iterator[Hooks]:
    """Hooks that show the progress of a stage and write its metrics.

    An exception inside the context counts as a failed run. Raises `InputError` or `VaflowError` if
    the metrics file cannot be written.
    """
    with ExitStack() as stack:
        hooks: list[Hooks] = []
        if metrics:
            hooks.append(stack.enter_context(recording(metrics, stage)).hooks())
        if is_json():
            hooks.append(log_hooks(log))
        else:
            hooks.append(stack.enter_context(terminal_hooks(plain_console(stderr=True))))
        log.info("%s begins", stage, extra={"stage": stage})
        yield merge_hooks(hooks)


def merge_hooks(hooks: list[Hooks]) -> Hooks:
    """Hooks that each call all hooks of the same name."""
    names = dict.fromkeys(name for each in hooks for name in each)
    return {name: _call_all([each[name] for each in hooks if name in each]) for name in names}


def _call_all(hooks: list[Callable[..., None]]) -> Callable[..., None]:
    def hook(*arguments: object) -> None:
        for each in hooks:
            each(*arguments)

    return hook
