"""The keys of a stage: the parameters of its function, without the hooks."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, create_model

HOOK = "on_"  # how the names of parameters begin that are callbacks, not keys


def keys_of(function: Callable) -> dict[str, inspect.Parameter]:
    """The parameters of a stage's function that are keys, by name."""
    found = inspect.signature(function).parameters
    return {name: parameter for name, parameter in found.items() if not name.startswith(HOOK)}


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
    """Those of the hooks that a stage takes."""
    taken = inspect.signature(function).parameters
    return {name: hook for name, hook in hooks.items() if name in taken}


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The configs inside the unions, sequences and annotations of a key's type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def kind_of(model: type[BaseModel]) -> str | None:
    """The kind by which a config is told from the others of its union, if it is in one."""
    return model.model_fields["kind"].default if "kind" in model.model_fields else None
