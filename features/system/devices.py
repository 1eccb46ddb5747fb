"""The device that a network runs on: part of the provenance, never of a spec."""

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

RETRY_GPU_S = 1.0  # between attempts to lock a GPU
TOKENS, WIDTH, INNER = 400, 768, 3072  # of a layer of a ViT-B, for eight images
TRIALS = 5
MIN_GAIN = 1.5  # times faster: from here on bfloat16 is recommended


def torch_device(name: DeviceName) -> torch.device:
    """The device of this name; raises `InputError` if there is none."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name in ("auto", "cpu"):
        return torch.device("cuda" if n_gpus and name == "auto" else "cpu")
    if not n_gpus:
        raise InputError(f"device={name}, but torch finds no GPU; give device=auto or device=cpu")
    device = torch.device(name)
    if device.index is not None and device.index >= n_gpus:
        raise InputError(f"device={name}, but torch finds {n_gpus} GPUs, counted from cuda:0")
    return device


@cache  # the load on the machine changes, but matters little to a ratio
@torch.inference_mode()
def bfloat16_gain(device: torch.device) -> float:
    """How many times faster than in float32 the device multiplies matrices in bfloat16.

    It is measured, which takes some hundredths of a second: some processors that support bfloat16
    are slower in it.
    """
    matrices = torch.zeros(TOKENS, WIDTH, device=device), torch.zeros(WIDTH, INNER, device=device)
    times_s: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(TRIALS + 1):  # the first is a warm-up
        for dtype, durations_s in times_s.items():
            a, b = (matrix.to(dtype) for matrix in matrices)
            start_s = time.perf_counter()
            (a @ b).sum().item()  # waits for the GPU
            durations_s.append(time.perf_counter() - start_s)
    return median(times_s[torch.float32][1:]) / median(times_s[torch.bfloat16][1:])


def advice(kinds: Sequence[str], device: torch.device) -> Iterator[str]:
    """Yields a recommendation if encoders of these kinds, in float32, would be faster in bfloat16.

    It is not chosen automatically, since another precision is another feature set.
    """
    if kinds and (gain := bfloat16_gain(device)) >= MIN_GAIN:
        yield (
            f"{device} multiplies {gain:.1f} times faster in bfloat16 than in float32: consider "
            f"precision: bfloat16 for {' and '.join(kinds)}, which makes feature sets of their own"
        )


def acquire_device(allowed: torch.device) -> tuple[torch.device, HeldLock | None]:
    """A device and, for a GPU, its lock; any free GPU if `allowed` is `cuda` without a number."""
    if allowed.type != "cuda":
        return allowed, None
    numbers = range(torch.cuda.device_count()) if allowed.index is None else [allowed.index]
    folder = Path(gettempdir()) / f"vaflow-{os.getuid()}"  # for all processes of this user
    uuids = [torch.cuda.get_device_properties(number).uuid for number in numbers]
    locks = [folder / f"gpu-{uuid}.lock" for uuid in uuids]
    index, lock = first_free_lock(locks, partial(time.sleep, RETRY_GPU_S))
    return torch.device("cuda", numbers[index]), lock


def first_free_lock(locks: Sequence[Path], wait: Callable[[], None]) -> tuple[int, HeldLock]:
    """The index of the first lock that is free, and the lock; calls `wait` until one is."""
    warned = False
    while True:
        for index, path in enumerate(locks):
            if lock := try_lock(path):
                return index, lock
        if not warned:
            log.warning(
                "another extraction holds %s; this one waits for it to end",
                "the GPU" if len(locks) == 1 else f"each of the {len(locks)} GPUs",
            )
            warned = True
        wait()
