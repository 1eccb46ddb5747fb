"""The console that a command prints to."""

from typing import NoReturn

from rich.console import Console


class PipeConsole(Console):
    """A console that leaves a closed pipe to the command, which knows its exit status."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise the `BrokenPipeError` again; rich would exit with status 1."""
        raise


def plain_console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: no markup, no highlighting, no wrapping of lines."""
    return PipeConsole(highlight=False, soft_wrap=True, markup=False, stderr=stderr)
