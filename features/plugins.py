"""Plug-ins: what other distributions add, by entry points, without a change of this project."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from features.errors import InputError, one_line

ENCODERS = "vaflow.encoders"
"""The group of the entry points of encoders: the name is the kind, the object the config class."""


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


@cache
def plugins(group: str) -> tuple[Plugin, ...]:
    """The plug-ins of a group that are installed, by name; imports none of them."""
    return tuple(sorted(_found(group), key=lambda each: (each.name, each.distribution)))


def _found(group: str) -> Iterator[Plugin]:
    for point in entry_points(group=group):
        dist = point.dist
        name = f"{dist.name} {dist.version}" if dist else "an unknown distribution"
        yield Plugin(group, point.name, point.value, name, point)
