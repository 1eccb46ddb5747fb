"""Where a network runs: never part of a spec, always part of the provenance."""

from typing import Literal

import torch

from features.errors import InputError

DeviceName = Literal["auto", "cpu", "cuda"]


def torch_device(name: DeviceName) -> torch.device:
    """The device of that name; for `auto` the GPU where there is one."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("device=cuda, but torch finds no GPU; give device=auto or device=cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
