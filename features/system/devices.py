"""Where a network runs: never part of a spec, always part of the provenance."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import median
from tempfile import gettempdir

import torch

from features.errors import InputError
from features.system.device_name import DeviceName
from features.system.locks import HeldLock, try_lock

log = logging.getLogger(__name__)

RETRY_GPU_S = 1.0  # at GPUs that others hold
TOKENS, WIDTH, INNER = 400, 768, 3072  # of a layer such as a ViT-B has, eight pictures at once
TRIALS = 5
WORTH_IT = 1.5  # times faster, from which on another precision is worth a remark


def torch_device(name: DeviceName) -> torch.device:
    """The device of that name; `InputError` where it is not there."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name in ("auto", "cpu"):
        return torch.device("cuda" if n_gpus and name == "auto" else "cpu")
    if not n_gpus:
        raise InputError(f"device={name}, but torch finds no GPU; give device=auto or device=cpu")
    place = torch.device(name)
    if place.index is not None and place.index >= n_gpus:
        raise InputError(f"device={name}, but torch finds {n_gpus} GPUs, counted from cuda:0")
    return place


@cache  # a processor does not change; what runs beside it does, and matters little to a ratio
@torch.inference_mode()
def bfloat16_gain(device: torch.device) -> float:
    """How many times faster than in float32 the device multiplies matrices in bfloat16.

    Measured, in some hundredths of a second: processors say that they can, and are slower so.
    """
    inner = torch.zeros(TOKENS, WIDTH, device=device), torch.zeros(WIDTH, INNER, device=device)
    times_s: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(TRIALS + 1):
        for dtype, taken_s in times_s.items():
            a, b = (each.to(dtype) for each in inner)
            began_s = time.perf_counter()
            (a @ b).sum().item()  # which waits for a GPU
            taken_s.append(time.perf_counter() - began_s)
    return median(times_s[torch.float32][1:]) / median(times_s[torch.bfloat16][1:])


def advice(kinds: Sequence[str], device: torch.device) -> Iterator[str]:
    """What would be faster for these encoders, which compute in float32, where anything would.

    Only said, never chosen: another precision makes feature sets of its own.
    """
    if kinds and (gain := bfloat16_gain(device)) >= WORTH_IT:
        yield (
            f"{device} multiplies {gain:.1f} times faster in bfloat16 than in float32: consider "
            f"precision: bfloat16 for {' and '.join(kinds)}, which makes feature sets of their own"
        )


def acquire_device(allowed: torch.device) -> tuple[torch.device, HeldLock | None]:
    """A device, with the lock on it if it is a GPU: that one, or where it has no number any."""
    if allowed.type != "cuda":
        return allowed, None
    numbers = range(torch.cuda.device_count()) if allowed.index is None else [allowed.index]
    locks = [_gpu_lock(str(torch.cuda.get_device_properties(n).uuid)) for n in numbers]
    place, lock = first_free_lock(locks, partial(time.sleep, RETRY_GPU_S))
    return torch.device("cuda", numbers[place]), lock


def first_free_lock(locks: Sequence[Path], wait: Callable[[], None]) -> tuple[int, HeldLock]:
    """The first of the locks that nobody holds, waiting for one; its place among them."""
    told = False
    while True:
        for place, path in enumerate(locks):
            if lock := try_lock(path):
                return place, lock
        if not told:
            log.warning(
                "another extraction holds %s; this one waits for it to end",
                "the GPU" if len(locks) == 1 else f"each of the {len(locks)} GPUs",
            )
            told = True
        wait()


def _gpu_lock(uuid: str) -> Path:
    """The lock file of a GPU, for the processes of this user on this machine."""
    return Path(gettempdir()) / f"vaflow-{os.getuid()}" / f"gpu-{uuid}.lock"
