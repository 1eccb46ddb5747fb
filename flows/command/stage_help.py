"""The help of a stage: its keys, with type, default and meaning."""

from collections.abc import Callable, Iterator
from textwrap import wrap

from flows.stage_functions import STAGES, StageName
from flows.stage_schema import Key, stage_schema

WIDTH = 100  # columns
INDENT = " " * 6


def render_stage_help(name: StageName, function: Callable) -> Iterator[str]:
    """The lines of `vaflow run STAGE --help`."""
    yield f"usage: vaflow run {name} [-c CONFIG.yaml] [key=value ...] [options]"
    yield ""
    yield f"{name}: {STAGES[name]}."
    yield "Options: see `vaflow run --help`."
    section = None
    for key in stage_schema(function):
        if key.section != section:
            section = key.section
            yield ""
            yield f"{section or 'keys'}:"
        yield from _render_key(key)


def _render_key(key: Key) -> Iterator[str]:
    default = "required" if key.default is None else f"default {key.default}"
    yield f"  {key.name}: {key.type}; {default}"
    yield from wrap(key.help, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
