"""The training loop, from packed features on a device to the best weights."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from features.errors import InputError, VaflowError
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
from models.training.last_state import LastState, SavedState, random_states, restore_random
from models.training.losses import head_loss
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
    on_next_epoch: Callable[[Sequence[EpochResult]], None] | None = None,
) -> Fit:
    """Trains the head in place, on the device of the features; call `check_head` first.

    `inner` are the held-out training rows, which `select: inner` needs. Val is scored after every
    epoch, whatever selects. Each step also draws a batch of `unlabelled`, whose labels are
    predictions (Lee, 2013). The state of the training is `saved` after every epoch and now and then
    within one, and a training that finds one goes on from there as if it had not ended. Before each
    epoch but the first, `on_next_epoch` is called with those that have ended; it ends the training
    by an exception. Raises `VaflowError` if the loss is not finite.
    """
    passes = Passes(train, training_windows(train, head_config, config), config, LABELLED)
    optimizer = adam_w(head, config)
    n_steps = steps_per_epoch(passes.n_windows, config)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        partial(
            rate,
            n_steps=n_steps * config.epochs,
            warmup=config.warmup,
            decays=config.schedule == "cosine",
        ),
    )
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
            epochs=epochs,
            total=total.item(),
        )

    epochs: list[EpochResult] = []
    kept, state = None, dict[str, Tensor]()
    total = torch.zeros((), device=train.device)
    if saved and (last := saved.read()):
        head.load_state_dict(head.state_dict() | last.learned["head"])
        optimizer.load_state_dict(last.learned["optimizer"])
        schedule.load_state_dict(last.learned["schedule"])
        for each, of_pass in zip(filter(None, (passes, pseudo)), last.passes, strict=True):
            each.restore(of_pass)
        restore_random(last.random, train.device)
        epochs, total = list(last.epochs), total + last.total
        if last.kept:
            state = {name: each.clone() for name, each in head.state_dict().items()} | last.kept
        kept = kept_epoch(epochs, config) if epochs else None
    for index in range(len(epochs), config.epochs):
        if kept and config.patience and index - 1 - kept.index >= config.patience:
            break
        if on_next_epoch and epochs:
            on_next_epoch(epochs)
        head.train()
        for batch, targets in passes.one_pass():
            extra = next(extras) if extras else None
            total += step(head, optimizer, batch, targets, config, grid, extra)
            schedule.step()
            if saved and saved.is_due():
                saved.write(snapshot())
        loss = total.item() / n_steps
        if not math.isfinite(loss):
            raise VaflowError(
                f"the training loss is {loss} in epoch {index + 1}: the training diverged; lower "
                f"train.learning_rate (it is {config.learning_rate:g})"
            )
        held_out = score(inner)[2] if inner else None
        epochs.append(EpochResult(index, loss, *score(val), held_out))
        kept = kept_epoch(epochs, config)
        if kept is epochs[-1]:
            state = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        total = torch.zeros((), device=train.device)
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
) -> Float[Tensor, ""]:
    """One training step; returns the loss as a tensor on the device, as reading it would wait.

    The loss of windows with pseudo-labels is added with the weight `train.pseudo_weight`.
    The text tower runs once, whatever the number of windows, and not at all with fixed prompts.
    """
    lower = config.precision == "bfloat16"
    with torch.autocast(batch.device.type, torch.bfloat16, enabled=lower):
        prototypes = head.prototypes() if config.loss.region_weight else None
        output = head(batch, prototypes)
        extra = head(pseudo[0], prototypes) if pseudo else None
    loss = head_loss(output.in_float32(), targets, config.loss, grid)
    if pseudo and extra:
        added = head_loss(extra.in_float32(), pseudo[1], config.loss, grid)
        loss = loss + config.pseudo_weight * added
    optimizer.zero_grad()
    loss.backward()
    if config.clip_grad_norm is not None:
        nn.utils.clip_grad_norm_(head.parameters(), config.clip_grad_norm)
    optimizer.step()
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


def check_gradient_paths(head: Head, batch: Batch) -> None:
    """Raises `ValueError` unless a region loss has a gradient in a parameter that V and A use.

    Any loss on the region logits will do for that. A head without a region branch passes.
    """
    with torch.random.fork_rng():  # so that a training draws the same numbers without this check
        output = head(batch, head.prototypes())
    if output.regions is None:
        return
    logits = output.regions.logits[output.regions.valid]  # (N, R)
    if not len(logits):
        raise ValueError(
            "the region loss cannot be checked: no row of the batch has a face; "
            "give a batch with at least one row that is valid in the stream with texts"
        )
    va = _gradients(head, output.va.square().sum())  # may be zero at the start: a text prior's are
    regions = _gradients(head, logits.log_softmax(dim=-1)[:, 0].sum())
    shared = any(bool(gradient.any()) for name, gradient in regions.items() if name in va)
    if not shared:
        raise ValueError(
            "the region loss reaches no parameter of the V/A output: the region logits are read "
            "from an embedding that shares no trained weights with V and A, so the loss does not "
            "change them; read the logits from the adapted embedding (head.region_on=adapted), or "
            "leave the loss out (train.loss.region_weight=0)"
        )


def _gradients(head: Head, loss: Float[Tensor, ""]) -> dict[str, Tensor]:
    if not loss.requires_grad:
        return {}
    names, parameters = zip(*head.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return {
        name: gradient
        for name, gradient in zip(names, gradients, strict=True)
        if gradient is not None
    }


def rate(step: int, *, n_steps: int, warmup: float, decays: bool = True) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then cosine decay or 1."""
    n_warmup = math.ceil(warmup * n_steps)
    if step < n_warmup:
        return (step + 1) / n_warmup
    if not decays:
        return 1.0
    return (1 + math.cos(math.pi * (step - n_warmup) / max(1, n_steps - n_warmup))) / 2
