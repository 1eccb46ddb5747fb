"""How far something is, on a terminal; apart from what stages say, which loads what they need."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

from flows.logs import is_json


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A hook that shows how many of a total are done."""
    console = Console(stderr=True)
    hidden = is_json() or not console.is_terminal
    with Progress(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=None)

        def on_step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield on_step
