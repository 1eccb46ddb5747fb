"""The training loop, from packed features on a device to the best weights."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from features.errors import InputError, VaflowError
from features.system.signals import waiting_signals
from models.data.batch import Batch, Targets
from models.data.batches import Example
from models.data.packed import PackedFeatures
from models.heads.base import Head
from models.heads.config import HeadConfig
from models.heads.windows import head_windows
from models.metrics.predict import predict
from models.metrics.scores import mean_ccc_of_sets
from models.regions.grid import NINE, Grid
from models.training.config import EpochResult, TrainConfig, kept_epoch
from models.training.epoch_sums import EpochSums
from models.training.gradient_paths import check_gradient_paths
from models.training.last_state import LastState, SavedState, random_states, restore_random
from models.training.losses import head_loss, loss_with_parts
from models.training.pace import Pace, TrainingStep
from models.training.passes import LABELLED, UNLABELLED, Passes, n_windows, training_windows


@dataclass(frozen=True, slots=True)
class Fit:
    """The result of a training."""

    epochs: tuple[EpochResult, ...]
    kept: EpochResult
    """The epoch that the config selects."""
    state: dict[str, Tensor]
    """The head's weights after that epoch."""


def fit(
    head: Head,
    head_config: HeadConfig,
    train: PackedFeatures,
    val: PackedFeatures,
    config: TrainConfig,
    grid: Grid = NINE,
    on_epoch: Callable[[EpochResult], None] | None = None,
    inner: PackedFeatures | None = None,
    unlabelled: PackedFeatures | None = None,
    saved: SavedState | None = None,
    on_step: Callable[[TrainingStep], None] | None = None,
    on_next_epoch: Callable[[Sequence[EpochResult]], None] | None = None,
) -> Fit:
    """Trains the head in place, on the device of the features; call `check_head` first.

    `inner` are the held-out training rows, which `select: inner` needs. Val is scored after every
    epoch, whatever selects. Each step also draws a batch of `unlabelled`, whose labels are
    predictions (Lee, 2013). The state of the training is `saved` after every epoch and now and then
    within one, and a training that finds one goes on from there as if it had not ended. After
    SIGINT or SIGTERM the step that has begun is finished, and its state is saved; a second signal
    ends at once. Before each epoch but the first, `on_next_epoch` is called with those that have
    ended; it ends the training by an exception. Raises `VaflowError` if the loss is not finite.
    """
    passes = Passes(train, training_windows(train, head_config, config), config, LABELLED)
    optimizer = adam_w(head, config)
    n_steps = steps_per_epoch(passes.n_windows, config)
    share = partial(
        rate,
        n_steps=n_steps * config.epochs,
        warmup=config.warmup,
        decays=config.schedule == "cosine",
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
    pseudo = unlabelled and _pseudo_passes(unlabelled, head_config, config)
    extras = pseudo and pseudo.without_end()

    def score(packed: PackedFeatures) -> tuple[float, float, float]:
        evaluated = head_windows(packed, head_config, size=config.window, stride=config.stride)
        return mean_ccc_of_sets(predict(head, packed, evaluated), packed)

    frozen = {name for name, each in head.named_parameters() if not each.requires_grad}

    def trained(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in tensors.items() if name not in frozen}

    def snapshot() -> LastState:
        return LastState(
            learned={
                "head": trained(head.state_dict()),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
            },
            kept=trained(state),
            random=random_states(train.device),
            passes=[each.state() for each in (passes, pseudo) if each],
            epochs=tuple(epochs),
            step=number,
            n_steps=n_steps,
            seconds=time.monotonic() - began_s if number else 0.0,
            sums=sums.state(),
        )

    epochs: list[EpochResult] = []
    kept, state = None, dict[str, Tensor]()
    sums, number, before_s = EpochSums.zero(train.device), 0, 0.0
    ended: LastState | None = None
    if saved and (last := saved.read()):
        head.load_state_dict(head.state_dict() | last.learned["head"])
        optimizer.load_state_dict(last.learned["optimizer"])
        schedule.load_state_dict(last.learned["schedule"])
        for each, of_pass in zip(filter(None, (passes, pseudo)), last.passes, strict=True):
            each.restore(of_pass)
        restore_random(last.random, train.device)
        epochs, ended = list(last.epochs), last
        sums, number = EpochSums.restored(last.sums, train.device), last.step
        before_s = last.seconds
        if last.kept:
            state = {name: each.clone() for name, each in head.state_dict().items()} | last.kept
        kept = kept_epoch(epochs, config) if epochs else None
    pace = Pace(config.epochs, n_steps, on_step)
    for index in range(len(epochs), config.epochs):
        if kept and config.patience and index - 1 - kept.index >= config.patience:
            break
        if on_next_epoch and epochs:
            on_next_epoch(epochs)
        began_s = time.monotonic() - before_s
        pace.begin(index + 1, number)
        head.train()
        with waiting_signals() as is_stopped:
            for batch, targets in passes.one_pass():
                extra = next(extras) if extras else None
                step(head, optimizer, batch, targets, config, grid, extra, sums)
                schedule.step()
                number += 1
                if number == n_steps:
                    ended = snapshot()
                if saved and (saved.is_due() or is_stopped()):
                    saved.write(snapshot())
                if is_stopped():
                    break
                pace.ended_step(number)
        if is_stopped():
            raise KeyboardInterrupt
        means = sums.means(n_steps)
        if not math.isfinite(means.loss):
            raise VaflowError(
                f"the training loss is {means.loss} in epoch {index + 1}: the training diverged; "
                f"lower train.learning_rate (it is {config.learning_rate:g})"
            )
        scoring_s = time.monotonic()
        try:
            held_out = score(inner)[2] if inner else None
            of_val = score(val)
        except KeyboardInterrupt:
            if saved and ended:
                saved.write(ended)
            raise
        pace.scored(time.monotonic() - scoring_s)
        shown: dict[str, Any] = asdict(means) | ({} if pseudo else {"loss_unlabelled": None})
        epochs.append(
            EpochResult(
                index,
                shown.pop("loss"),
                *of_val,
                held_out,
                **shown,
                learning_rate=config.learning_rate * share(n_steps * (index + 1) - 1),
                seconds=time.monotonic() - began_s,
            )
        )
        kept = kept_epoch(epochs, config)
        if kept is epochs[-1]:
            state = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        sums, number, before_s = EpochSums.zero(train.device), 0, 0.0
        if saved:
            saved.write(snapshot())
        if on_epoch:
            on_epoch(epochs[-1])
    assert kept is not None  # there is an epoch
    return Fit(tuple(epochs), kept, state)


def _pseudo_passes(packed: PackedFeatures, head: HeadConfig, config: TrainConfig) -> Passes:
    """Return the passes over unlabelled clips, which are mixed like labelled ones."""
    windows = training_windows(packed, head, config)
    if not len(windows):
        raise InputError(
            "the clips of train.unlabelled give no window to train on: give longer ones, or lower "
            f"train.causal_start_s (it is {config.causal_start_s:g})"
        )
    whole = config.model_copy(update={"set_weights": {}, "drop_last": False})
    return Passes(packed, windows, whole, UNLABELLED)


def steps_per_epoch(n_windows: int, config: TrainConfig) -> int:
    """Return how many batches an epoch has."""
    if config.drop_last:
        return n_windows // config.batch_size
    return math.ceil(n_windows / config.batch_size)


def adam_w(head: Head, config: TrainConfig) -> torch.optim.AdamW:
    """The optimiser of a head; fused, so that a step is one kernel over all weights."""
    return torch.optim.AdamW(
        head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


def step(
    head: Head,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    targets: Targets,
    config: TrainConfig,
    grid: Grid = NINE,
    pseudo: Example | None = None,
    sums: EpochSums | None = None,
) -> Float[Tensor, ""]:
    """One training step; returns the loss as a tensor on the device, as reading it would wait.

    The loss of windows with pseudo-labels is added with the weight `train.pseudo_weight`.
    The text tower runs once, whatever the number of windows, and not at all with fixed prompts.
    The step is added to `sums`.
    """
    lower = config.precision == "bfloat16"
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=lower):
        prototypes = head.prototypes() if config.loss.region_weight else None
        output = head(batch, prototypes)
        extra = head(pseudo[0], prototypes) if pseudo else None
    output, added = output.in_float32(), None
    labelled = loss_with_parts(output, targets, config.loss, grid)
    loss = labelled.total
    if pseudo and extra:
        added = config.pseudo_weight * head_loss(extra.in_float32(), pseudo[1], config.loss, grid)
        loss = loss + added
    optimizer.zero_grad()
    loss.backward()
    if config.clip_grad_norm is not None:
        norm = nn.utils.clip_grad_norm_(head.parameters(), config.clip_grad_norm)
    else:
        gradients = (each.grad for each in head.parameters())
        norm = nn.utils.get_total_norm([each for each in gradients if each is not None])
    optimizer.step()
    if sums:
        sums.add(loss, labelled.parts, added, norm, output.va, targets)
    return loss.detach()


def check_head(
    head: Head, head_config: HeadConfig, train: PackedFeatures, config: TrainConfig
) -> None:
    """Raises `ValueError` if the head cannot be trained with this config.

    That is if there is no batch of windows or the head cannot read them, if the region loss would
    change nothing (unless the head allows it), or if the precision is bfloat16 on a CPU.
    """
    if config.precision == "bfloat16" and train.stored_on.type == "cpu":
        raise ValueError(
            "train.precision is bfloat16, and a CPU casts to it more slowly than it computes in "
            "float32: set it to float32, or train on a GPU"
        )
    windows = training_windows(train, head_config, config)
    if not steps_per_epoch(n_windows(train, windows, config.set_weights), config):
        raise ValueError(
            f"the train split gives {len(windows)} windows, which is no batch: lower "
            f"train.causal_start_s (it is {config.causal_start_s:g}) or train.batch_size "
            f"({config.batch_size}), or set train.drop_last to false"
        )
    chosen = np.linspace(0, len(windows) - 1, config.batch_size).astype(np.int64)
    if config.loss.region_weight and not head_config.allow_ineffective_region_loss:
        check_gradient_paths(head, train.gather(windows, chosen)[0])
    else:
        with torch.no_grad(), torch.random.fork_rng():
            head(train.gather(windows, chosen[:1])[0])


def rate(step: int, *, n_steps: int, warmup: float, decays: bool = True) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then cosine decay or 1."""
    n_warmup = math.ceil(warmup * n_steps)
    if step < n_warmup:
        return (step + 1) / n_warmup
    if not decays:
        return 1.0
    return (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup))) / 2
