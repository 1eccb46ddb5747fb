"""The keys of a stage: the parameters of its function."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from features.encoders import AnyEncoderConfig
from flows.stages import STAGES

HOOK = "on_"  # how parameters begin that are called back, and are no keys


def parameters(function: Callable) -> type[BaseModel]:
    """The keys that a stage takes, as a model that forbids others; hooks are left out."""
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name.startswith(HOOK):
            continue
        required = parameter.default is parameter.empty
        annotation = parameter.annotation
        if name == "encoders":  # a sequence in code, a list in YAML
            annotation = Annotated[tuple[AnyEncoderConfig, ...], Field(min_length=1)]
        fields[name] = (annotation, ... if required else parameter.default)
    return create_model("Parameters", __config__=ConfigDict(extra="forbid"), **fields)


def hooks_of(function: Callable, hooks: Mapping[str, Callable]) -> dict[str, Callable]:
    """Those of the hooks that a stage calls."""
    taken = inspect.signature(function).parameters
    return {name: hook for name, hook in hooks.items() if name in taken}


def known_keys() -> set[str]:
    """The keys of all stages: what the config of a whole experiment may hold."""
    return {key for function in STAGES.values() for key in parameters(function).model_fields}
