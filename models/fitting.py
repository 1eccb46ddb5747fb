"""The training loop, from banks on a device to the best weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn

from features.config import Config
from features.devices import DeviceName
from features.errors import VaflowError
from models.bank import Bank
from models.epoch import epoch
from models.gradient_paths import check_gradient_paths
from models.heads.base import Batch, Head, HeadConfig
from models.losses import Targets, head_loss
from models.mixup import mixed
from models.prediction import VaConcordance, concordance, predict
from models.regions import NINE, Grid
from models.windows import Windows, causal_windows, dense_windows


class TrainConfig(Config):
    """Settings of the training. Device and threads decide no more than the last digits."""

    model_config = ConfigDict(allow_inf_nan=False)

    epochs: int = Field(default=15, ge=1)
    """At most; `patience` may end it before."""
    patience: int = Field(default=5, ge=1)
    """Epochs in a row without a better val mean CCC after which training stops."""
    batch_size: int = Field(default=16, ge=1)
    """Windows per step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """The peak, after the warm-up; a cosine leads from there to 0."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """By which AdamW shrinks all weights, times the learning rate, in a step."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of all steps over which the rate rises."""
    clip_grad_norm: float = Field(default=1.0, gt=0)
    """The longest gradient of all weights together; a longer one is shortened to it."""
    seed: int = Field(default=0, ge=0)
    """Of the first weights, the order of the windows, dropout and mixup."""
    window: int = Field(default=300, ge=1)
    """Rows of a window."""
    stride: int = Field(default=200, ge=1)
    """Rows from one window's start to the next."""
    causal_stride: int = Field(default=10, ge=1)
    """Rows from one target to the next, where windows are causal; scoring predicts every row."""
    mixup: float = Field(default=0.0, ge=0)
    """Alpha of the Beta distribution by which windows are mixed in pairs; 0 mixes none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the head's products; weights, loss and scoring stay in float32. bfloat16 wants a GPU."""
    device: DeviceName = "auto"
    """Where the head is trained: auto takes the GPU where there is one."""
    threads: int | None = Field(default=None, ge=1)
    """Of the CPU; None leaves it to torch. One is best for a small head on a busy machine."""
    bank_mib: int | None = Field(default=None, ge=1)
    """Of the device's memory, for rows of the training and val clips; more are streamed in blocks.

    None: half of what is free on a GPU; on a CPU the memory map on disk, of which nothing is held.
    """

    @model_validator(mode="after")
    def _windows_overlap(self) -> "TrainConfig":
        if self.stride > self.window:
            raise ValueError(
                f"stride ({self.stride}) must be at most window ({self.window}), "
                "or rows are left out"
            )
        return self


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training windows, and the score after it."""

    index: int
    loss: float
    """Mean over the steps."""
    ccc_valence: float
    """Of the val split, by the official protocol; so are the next two."""
    ccc_arousal: float
    ccc_mean: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What the loop found."""

    epochs: tuple[Epoch, ...]
    best: Epoch
    """The one with the highest val mean CCC, the first of equals."""
    state: dict[str, Tensor]
    """The head's weights after that epoch."""


def fit(
    head: Head,
    head_config: HeadConfig,
    train: Bank,
    val: Bank,
    config: TrainConfig,
    grid: Grid = NINE,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Fit:
    """Train the head in place; its device is the banks'.

    `VaflowError` where the loss is no number any more. `check_head` comes before.
    """
    windows = training_windows(train, head_config, config)
    seen = scoring_windows(val, head_config, size=config.window, stride=config.stride)
    optimizer = adam_w(head, config)
    n_steps = math.ceil(len(windows) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(rate, n_steps=n_steps * config.epochs, warmup=config.warmup)
    )
    shuffle = np.random.default_rng(config.seed)
    draws = np.random.default_rng((config.seed, 1))  # of mixup: none of the shuffle's
    epochs: list[Epoch] = []
    best, state = None, {}
    for index in range(config.epochs):
        head.train()
        total = torch.zeros((), device=train.device)
        for batch, targets in epoch(train, windows, shuffle, config.batch_size):
            if config.mixup:
                batch, targets = mixed(batch, targets, draws, config.mixup)
            total += step(head, head_config, optimizer, batch, targets, config, grid)
            schedule.step()
        loss = total.item() / n_steps
        epochs.append(_scored(index, loss, config, concordance(predict(head, val, seen), val)))
        if on_epoch:
            on_epoch(epochs[-1])
        if best is None or epochs[-1].ccc_mean > best.ccc_mean:
            best = epochs[-1]
            state = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        elif index - best.index >= config.patience:
            break
    assert best is not None  # there is an epoch
    return Fit(tuple(epochs), best, state)


def adam_w(head: Head, config: TrainConfig) -> torch.optim.AdamW:
    """The optimiser of a head, all weights in one pass."""
    return torch.optim.AdamW(
        head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def step(
    head: Head,
    head_config: HeadConfig,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    targets: Targets,
    config: TrainConfig,
    grid: Grid = NINE,
) -> Float[Tensor, ""]:
    """One step of the head's weights; returns the loss where it is, as nothing may wait for it.

    The text tower runs once, whatever the number of windows; with fixed prompts it does not run.
    """
    lower = config.precision == "bfloat16"
    with torch.autocast(batch.visual.device.type, torch.bfloat16, enabled=lower):
        prototypes = head.prototypes() if head_config.region_weight else None
        output = head(batch, prototypes)
    loss = head_loss(output.in_float32(), targets, head_config, grid)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(head.parameters(), config.clip_grad_norm)
    optimizer.step()
    return loss.detach()


def check_head(head: Head, head_config: HeadConfig, train: Bank, config: TrainConfig) -> None:
    """Raise `ValueError` where the head cannot read such windows.

    Also where the region loss could change nothing, unless that is wanted, and where the device
    is slower in the precision asked for than in float32.
    """
    if config.precision == "bfloat16" and train.visual.device.type == "cpu":
        raise ValueError(
            "train.precision is bfloat16, and a CPU casts to it more slowly than it computes in "
            "float32: set it to float32, or train on a GPU"
        )
    windows = training_windows(train, head_config, config)
    spread = np.linspace(0, len(windows) - 1, config.batch_size).astype(np.int64)
    if head_config.region_weight and not head_config.may_be_idle:
        check_gradient_paths(head, train.gather(windows, spread)[0])
    else:
        with torch.no_grad(), torch.random.fork_rng():
            head(train.gather(windows, spread[:1])[0])


def training_windows(bank: Bank, head: HeadConfig, config: TrainConfig) -> Windows:
    """The windows that a pass over the bank trains on."""
    if head.windows == "causal":
        return causal_windows(bank.offsets, bank.time_s, stride=config.causal_stride)
    return dense_windows(bank.offsets, size=config.window, stride=config.stride)


def scoring_windows(bank: Bank, head: HeadConfig, *, size: int, stride: int) -> Windows:
    """Windows that predict every row of the bank."""
    if head.windows == "causal":
        return causal_windows(bank.offsets, bank.time_s, stride=1)
    return dense_windows(bank.offsets, size=size, stride=stride)


def rate(step: int, *, n_steps: int, warmup: float) -> float:
    """Share of the peak learning rate at a step: a line up, then half a cosine down."""
    n_warmup = math.ceil(warmup * n_steps)
    if step < n_warmup:
        return (step + 1) / n_warmup
    return (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup))) / 2


def _scored(index: int, loss: float, config: TrainConfig, score: VaConcordance) -> Epoch:
    """The epoch with its val scores."""
    if not math.isfinite(loss):
        raise VaflowError(
            f"the training loss is {loss} in epoch {index + 1}: the training diverged; lower "
            f"train.learning_rate (it is {config.learning_rate:g})"
        )
    valence, arousal = score.valence.ccc(), score.arousal.ccc()
    return Epoch(index, loss, valence, arousal, (valence + arousal) / 2)
