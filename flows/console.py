"""The console that a command prints to, and its tables."""

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from features.printable import printable

PIPE_WIDTH = 200  # columns of text


class PipeConsole(Console):
    """A console that escapes names from outside, in lines and in the cells of tables.

    It leaves a closed pipe to the command, which knows its exit status.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the printable text with rich's markup and highlights."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> NoReturn:
        """Raise the `BrokenPipeError` again; rich would exit with status 1."""
        raise


def plain_console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: no markup, no highlighting, no wrapping of lines."""
    return PipeConsole(highlight=False, soft_wrap=True, markup=False, stderr=stderr)


def table_console() -> Console:
    """The same for wide tables: where no terminal says how many columns it has, `PIPE_WIDTH`."""
    console = plain_console()
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def make_table(
    title: str, texts: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]
) -> Table:
    """A table whose columns of text, which come first, fold, and whose numbers stay on one line."""
    table = Table(title=title)
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def plain_table(
    texts: Sequence[str], numbers: Sequence[str], more_texts: Sequence[str] = ()
) -> Table:
    """A table without borders, for many columns: texts fold, numbers stay on one line."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    for name in more_texts:
        table.add_column(name, overflow="fold")
    return table
