"""The keys of a stage: the parameters of its function, without the hooks."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, create_model

FunctionT = TypeVar("FunctionT", bound=Callable)

HOOK = "on_"  # prefix of the parameters that are callbacks, not keys


def keys_of(function: Callable) -> dict[str, inspect.Parameter]:
    """The parameters of a stage's function that are keys, by name."""
    parameters = inspect.signature(function).parameters
    return {name: parameter for name, parameter in parameters.items() if not name.startswith(HOOK)}


def keys_for(function: Callable, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the given keys that the function has."""
    return {name: given[name] for name in keys_of(function) if name in given}


def with_keys(keys: Iterable[inspect.Parameter]) -> Callable[[FunctionT], FunctionT]:
    """Give a function of `**keys` these keys as its signature, followed by its hooks."""

    def decorate(function: FunctionT) -> FunctionT:
        own = inspect.signature(function).parameters.values()
        hooks = (parameter for parameter in own if parameter.name.startswith(HOOK))
        named = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*keys, *hooks)]
        function.__signature__ = inspect.Signature(named)  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return decorate


def keys_model(function: Callable) -> type[BaseModel]:
    """A pydantic model of the keys of a stage; it forbids all others."""
    fields: dict[str, Any] = {
        name: (
            parameter.annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for name, parameter in keys_of(function).items()
    }
    return create_model("Keys", __config__=ConfigDict(extra="forbid"), **fields)


def hooks_of(function: Callable, hooks: Mapping[str, Callable]) -> dict[str, Callable]:
    """The hooks that a stage accepts."""
    accepted = inspect.signature(function).parameters
    return {name: hook for name, hook in hooks.items() if name in accepted}
