"""Plug-ins: what other distributions add, by entry points, without a change of this project."""

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from features.errors import InputError, one_line

ENCODERS = "vaflow.encoders"
HEADS = "vaflow.heads"
DATASETS = "vaflow.datasets"
DETECTORS = "vaflow.detectors"
GROUPS = {ENCODERS: "encoder", HEADS: "head", DATASETS: "data set", DETECTORS: "face detector"}
"""The groups of entry points, and what they add: a name is a kind, its object the config class."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point of a distribution."""

    group: str
    name: str
    """The kind that it adds."""
    target: str
    """Where the config class is: `package.module:Class`."""
    distribution: str
    """The name and version of the distribution."""
    entry_point: EntryPoint

    def load(self) -> Any:
        """Import the object; raises `InputError` if that fails, whatever the plug-in raises."""
        try:
            return self.entry_point.load()
        except Exception as error:  # the code of others, which can raise anything
            raise InputError(
                f"the plug-in {self.name!r} of {self.distribution} cannot be imported "
                f"({type(error).__name__}: {one_line(error)}); correct {self.target}, or "
                "uninstall it"
            ) from error


@dataclass(frozen=True, slots=True)
class Check:
    """One rule of a contract."""

    rule: str
    problem: str
    """How it is broken; empty if it is kept."""


Rule = tuple[str, Callable[[], str | None]]
"""A rule in words, and a function that returns how it is broken, or None."""


def run_checks(rules: Iterable[Rule]) -> tuple[Check, ...]:
    """Check rules in their order; the first broken one is the last result."""
    checks: list[Check] = []
    for rule, check in rules:
        checks.append(Check(rule, check() or ""))
        if checks[-1].problem:
            break
    return tuple(checks)


def class_problem(plugin: Plugin, config: Any, base: type, own: Container[str]) -> str:
    """What is wrong with the config class of a plug-in, in words; empty if nothing is.

    It must derive from `base` and have a kind that is not among our `own` ones.
    """
    if not isinstance(config, type) or not issubclass(config, base):
        return f"{plugin.target} must be a subclass of {base.__module__}.{base.__qualname__}"
    field = getattr(config, "model_fields", {}).get("kind")
    if field is None or field.default != plugin.name:
        default = None if field is None else field.default
        return (
            f"{plugin.target} has the kind {default!r}; it must be the name of the entry point, "
            f'kind: Literal["{plugin.name}"] = "{plugin.name}"'
        )
    if plugin.name in own:
        return f"vaflow has a kind {plugin.name!r} of its own; choose another name"
    return ""


def config_class(plugin: Plugin, problem_of: Callable[[Plugin, Any], str]) -> Any:
    """The config class of a plug-in; `InputError` if it cannot be imported or has a problem."""
    config = plugin.load()
    if problem := problem_of(plugin, config):
        raise InputError(
            f"the plug-in {plugin.name!r} of {plugin.distribution} is no {GROUPS[plugin.group]}: "
            f"{problem}"
        )
    return config


def config_or_problem(plugin: Plugin, config_of: Callable[[Plugin], Any]) -> Any:
    """The config class of a plug-in, or why it cannot be used."""
    try:
        return config_of(plugin)
    except InputError as error:
        return str(error)


def usable_plugins(group: str, config_of: Callable[[Plugin], Any]) -> dict[str, Any]:
    """The config classes of the plug-ins of a group that can be used, by kind."""
    found: dict[str, Any] = {}
    for plugin in plugins(group):
        if isinstance(config := config_or_problem(plugin, config_of), type):
            found.setdefault(plugin.name, config)
    return found


@cache
def _entry_points() -> Any:
    return entry_points()  # reads every distribution, so once for all groups


@cache
def plugins(group: str) -> tuple[Plugin, ...]:
    """The plug-ins of a group that are installed, by name; imports none of them."""
    return tuple(sorted(_found(group), key=lambda each: (each.name, each.distribution)))


def _found(group: str) -> Iterator[Plugin]:
    for point in _entry_points().select(group=group):
        dist = point.dist
        name = f"{dist.name} {dist.version}" if dist else "an unknown distribution"
        yield Plugin(group, point.name, point.value, name, point)
