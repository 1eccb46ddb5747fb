"""Loads the weights of modules whose parameters had other names in earlier versions."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn


def load_old_names(module: nn.Module, names: Mapping[str, str]) -> None:
    """Makes `load_state_dict` accept tensors whose old names begin with a key of `names`.

    Names are prefixes within the module, old -> new.
    """
    module.register_load_state_dict_pre_hook(partial(_rename, names=names))


def _rename(
    module: nn.Module, state: dict[str, Any], prefix: str, *_: Any, names: Mapping[str, str]
) -> None:
    for old, new in names.items():
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)
