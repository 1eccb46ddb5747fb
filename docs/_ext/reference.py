"""Generate the reference of commands and of configuration keys from the code itself.

A page contains a placeholder such as `@commands@`. When Sphinx reads the page, the placeholder is
replaced by Markdown that is made from the argument parser, and from the signatures of the stages
with their pydantic models (`flows.keys.schema`), so the reference is always that of the code.
"""

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

PAGES = ("reference/commands", "reference/keys")


def setup(app: Any) -> dict[str, bool]:
    """Register the extension."""
    app.connect("source-read", fill_placeholders)
    app.connect("env-get-outdated", lambda app, env, added, changed, removed: list(PAGES))
    return {"parallel_read_safe": True}


def fill_placeholders(app: Any, docname: str, source: list[str]) -> None:
    """Replace the placeholders of a page by generated Markdown."""
    for placeholder, generate in (("@commands@", commands), ("@keys@", keys)):
        if placeholder in source[0]:
            source[0] = source[0].replace(placeholder, generate())


def commands() -> str:
    """The usage, arguments and options of every command, as Markdown."""
    from flows.command.main import parser

    return "\n".join(_command(parser()))


def _command(parser: argparse.ArgumentParser) -> Iterator[str]:
    """One command, followed by its subcommands."""
    nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=88)
    yield f"## `{parser.prog}`\n"
    if parser.description:
        yield f"{parser.description.strip()}\n"
    yield f"```text\n{parser.format_usage().removeprefix('usage: ').rstrip()}\n```\n"
    shown = [a for a in parser._actions if a not in nested and a.help != argparse.SUPPRESS]
    rows = [(_argument(a), _help(a)) for a in shown if "-h" not in a.option_strings]
    if rows:
        yield from _table(("argument", "description"), rows)
    for action in nested:
        summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for name, command in action.choices.items():
            command.description = command.description or _sentence(summaries.get(name, ""))
            yield from _command(command)


def _argument(action: argparse.Action) -> str:
    """How an argument is written on the command line."""
    takes_value = action.nargs != 0
    value = str(action.metavar or action.dest) if takes_value else ""
    if action.choices:
        value = "|".join(map(str, action.choices))
    if not action.option_strings:
        return f"`{value}`"
    return ", ".join(f"`{option} {value}`".replace(" `", "`") for option in action.option_strings)


def _help(action: argparse.Action) -> str:
    """The help of an argument, with its default."""
    default = action.default
    shown = default not in (None, False, (), argparse.SUPPRESS) and action.option_strings
    text = (action.help or "") % vars(action)
    return f"{text} (default: `{default}`)".strip() if shown and "default" not in text else text


def keys() -> str:
    """The keys of every stage, then the keys of every configuration inside them, as Markdown."""
    from flows.keys.schema import Key, stage_schema
    from flows.stage_functions import STAGES, stage_function

    lines = ["## Stages\n"]
    nested: dict[str, dict[str, Key]] = {}
    for stage, text in STAGES.items():
        own: list[Key] = []
        for key in stage_schema(stage_function(stage)):
            if key.section:
                nested.setdefault(key.section, {})[key.name] = key
            else:
                own.append(key)
        lines += [f"### `{stage}`\n", f"{_sentence(text)}\n", *_key_table(own)]
    lines.append("## Nested keys\n")
    lines.append("`N` is the place in a list, counted from 0.\n")
    for section, by_name in nested.items():
        name, _, kind = section.partition(", kind ")
        title = f"`{name}` (`kind: {kind}`)" if kind else f"`{name}`"
        lines += [f"### {title}\n", *_key_table(by_name.values())]
    return "\n".join(lines)


def _key_table(keys: Iterable[Any]) -> list[str]:
    """A table of keys."""
    header = ("key", "type", "default", "description")
    rows = [
        (
            f"`{key.name}`",
            key.type.replace(" | ", ", "),
            "required" if key.default is None else key.default,
            key.help,
        )
        for key in keys
    ]
    return _table(header, rows)


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """A Markdown table, with an empty line after it."""
    cells = [header, tuple("---" for _ in header), *rows]
    lines = ["| " + " | ".join(_cell(text) for text in row) + " |" for row in cells]
    return [*lines, ""]


def _cell(text: str) -> str:
    """Text that does not break a row of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _sentence(text: str) -> str:
    """The text with a capital letter and a full stop."""
    return f"{text[0].upper()}{text[1:].removesuffix('.')}." if text else ""
