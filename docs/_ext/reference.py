"""Generate the reference of commands and of configuration keys from the code itself.

A page contains a placeholder such as `@commands@`. When Sphinx reads the page, the placeholder is
replaced by Markdown that is made from the argument parser, from the signatures of the stages and
from the pydantic models of their configuration, so the reference is always that of the code.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

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
    text = _sentence((action.help or "") % vars(action))
    return f"{text} Default: `{default}`.".strip() if shown else text


def keys() -> str:
    """The keys of every stage, then the keys of every configuration model, as Markdown."""
    from flows.key_help import help_of
    from flows.stage_keys import parameters
    from flows.stages import STAGES

    lines: list[str] = ["## Stages\n"]
    models: dict[str, type[BaseModel]] = {}
    for stage, function in STAGES.items():
        lines.append(f"### `{stage}`\n")
        rows = []
        for name, field in parameters(function).model_fields.items():
            _collect(field.annotation, models)
            help_text = help_of(function.__name__, name)
            rows.append((f"`{name}`", _type(field.annotation), _default(field), help_text))
        lines += _table(("key", "type", "default", "description"), rows)
    lines.append("## Nested keys\n")
    for model in models.values():
        lines.append(f"### {_title(model)}\n")
        if model.__doc__:
            lines.append(f"{model.__doc__.strip().splitlines()[0]}\n")
        rows = [
            (f"`{name}`", _type(field.annotation), _default(field), field.description or "")
            for name, field in model.model_fields.items()
        ]
        lines += _table(("key", "type", "default", "description"), rows)
    return "\n".join(lines)


def _collect(annotation: Any, models: dict[str, type[BaseModel]]) -> None:
    """Add the models that a type mentions, and those that their fields mention."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation.__name__ not in models:
            models[annotation.__name__] = annotation
            for field in annotation.model_fields.values():
                _collect(field.annotation, models)
        return
    for part in get_args(annotation):
        _collect(part, models)


def _title(model: type[BaseModel]) -> str:
    """The name of a model, with the `kind` that selects it, if any."""
    kind = model.model_fields.get("kind")
    return f"{model.__name__} (`kind: {kind.default}`)" if kind else model.__name__


def _type(annotation: Any) -> str:
    """A type in words."""
    if annotation is None or annotation is type(None):
        return "null"
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in parts)
    if origin is not None and hasattr(annotation, "__metadata__"):
        return _type(parts[0])
    if origin in (tuple, list):
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation.__name__
    names = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: Any) -> str:
    """The default of a field, or that it is required."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return ""
    if isinstance(default, BaseModel):
        kind = getattr(default, "kind", None)
        return f"`{{kind: {kind}}}`" if kind else "see below"
    if isinstance(default, tuple | list):
        values = [d.model_dump(mode="json") if isinstance(d, BaseModel) else d for d in default]
        return f"`{json.dumps(values)}`"
    return f"`{json.dumps(default, default=str)}`"


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
