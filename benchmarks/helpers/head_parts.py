"""What each part of a training step costs, in arithmetic and in time."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from models.data.batch import Batch, Targets
from models.data.packed import PackedFeatures
from models.heads.base import Head
from models.heads.config import HeadConfig
from models.training.config import TrainConfig
from models.training.loop import adam_w, step, training_windows

PEAK_SIDE = 2048  # of the square matrices whose product is the peak
N_RUNS = 5  # of each part; the median is told
MODULES = {  # by what they are called in a DsplHead
    "adapter": ("adapter",),
    "temporal of sight": ("visual.temporal",),
    "temporal of sound": ("audio.temporal",),
    "attention": ("fuse.attention", "fuse.audio_attention"),
    "gate": ("fuse.gate",),
    "linear reading": ("skip_visual", "skip_audio"),
    "va": ("va",),
}


def _attention(query, key, value, *_, out_shape=None, **__) -> int:
    """FLOPs by the shapes, as torch counts them for its kernels on a GPU."""
    return sdpa_flop_count(query, key, value)


def _attention_back(grad, query, key, value, *_, out_shape=None, **__) -> int:
    """The same of the way back."""
    return sdpa_backward_flop_count(grad, query, key, value)


ATTENTION_ON_CPU = {  # torch has no count for this kernel
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_back,
}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a step, forward and backward."""

    name: str
    flops: float
    """Of its matrix products, a multiplication and an addition counted as two."""
    seconds: float


def peak_flops(device: torch.device) -> float:
    """FLOP/s of a large float32 matrix product, the best of several: the limit of a step."""
    a = torch.randn(PEAK_SIDE, PEAK_SIDE, device=device)
    return 2 * PEAK_SIDE**3 / min(_seconds(lambda: a @ a, device))


def parts_of(
    head: Head,
    config: HeadConfig,
    train: TrainConfig,
    bank: PackedFeatures,
    batch: Batch,
    targets: Targets,
) -> list[Part]:
    """Every part by itself, on what it is given in a step, and the whole step as the last.

    What is not listed (losses, masks, standardising) is the whole less the parts.
    """
    device, optimizer = bank["visual"].values.device, adam_w(head, train)
    windows = training_windows(bank, config, train)
    chosen = np.random.default_rng(0).permutation(len(windows))[: train.batch_size]
    ways: dict[str, Callable[[], object]] = {"data": lambda: bank.gather(windows, chosen)}
    if head.prototypes().requires_grad:
        ways["text tower"] = lambda: head.prototypes().sum().backward()
    inputs = _inputs(head, batch)
    for name, places in MODULES.items():
        found = [p for p in places if p in inputs and list(head.get_submodule(p).parameters())]
        if found:
            ways[name] = _forward_and_backward([(head.get_submodule(p), inputs[p]) for p in found])
    ways["optimiser"] = lambda: (
        nn.utils.clip_grad_norm_(head.parameters(), train.clip_grad_norm or math.inf),
        optimizer.step(),
    )
    ways["step"] = lambda: step(head, optimizer, batch, targets, train)
    ways["step"]()  # so that every weight has a gradient
    unseen = _inside_cudnn(head, inputs) if device.type == "cuda" else {}
    return [
        Part(
            name,
            _flops(way) + (sum(unseen.values()) if name == "step" else unseen.get(name, 0)),
            statistics.median(_seconds(way, device)),
        )
        for name, way in ways.items()
    ]


def _inside_cudnn(head: Head, inputs: dict[str, tuple[Tensor, ...]]) -> dict[str, float]:
    """FLOPs of the recurrences by part, which torch counts where it computes them itself alone."""
    counts: dict[str, float] = {}
    for name, places in MODULES.items():
        for place in places:
            gru = getattr(dict(head.named_modules()).get(place), "gru", None)
            if gru is not None:
                n_windows, n_rows = inputs[f"{place}.gru"][0].shape[:2]
                counts[name] = gru_flops(gru, n_windows * n_rows)
    return counts


def gru_flops(gru: nn.GRU, n_rows: int) -> int:
    """FLOPs of a training step of a GRU over so many rows (of all windows together).

    2 * 3W * (D + W) a row and direction, for W numbers of a state and D of a row: three gates, each
    a product with the row and one with the state. The backward pass has two products for each.
    """
    n_directions = 2 if gru.bidirectional else 1
    return 3 * n_rows * n_directions * 2 * 3 * gru.hidden_size * (gru.input_size + gru.hidden_size)


def _inputs(head: Head, batch: Batch) -> dict[str, tuple[Tensor, ...]]:
    """What each module of a head is given, by its place."""
    given: dict[str, tuple[Tensor, ...]] = {}

    def keep(place: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            given[place] = tuple(x.detach().requires_grad_(x.requires_grad) for x in inputs)

        return note

    inside = [(place, module) for place, module in head.named_modules() if place]
    hooks = [module.register_forward_pre_hook(keep(place)) for place, module in inside]
    head(batch, head.prototypes())
    for hook in hooks:
        hook.remove()
    return given


def _forward_and_backward(
    modules: list[tuple[nn.Module, tuple[Tensor, ...]]],
) -> Callable[[], None]:
    """A run of modules on their inputs, and back."""

    def run() -> None:
        for module, inputs in modules:
            module(*inputs).sum().backward()

    return run


def _flops(way: Callable[[], object]) -> float:
    """What torch counts of a run."""
    with FlopCounterMode(display=False, custom_mapping=ATTENTION_ON_CPU) as counter:
        way()
    return counter.get_total_flops()


def _seconds(way: Callable[[], object], device: torch.device) -> list[float]:
    """How long each of several runs took."""
    way()  # warm
    taken_s = []
    for _ in range(N_RUNS):
        _wait(device)
        began = time.perf_counter()
        way()
        _wait(device)
        taken_s.append(time.perf_counter() - began)
    return taken_s


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
