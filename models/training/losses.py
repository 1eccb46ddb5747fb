"""The losses of a head. Each is a mean over the valid rows of a batch."""

from dataclasses import dataclass
from typing import assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.data.batch import Targets
from models.heads.base import HeadOutput
from models.regions.grid import Grid
from models.regions.soft_labels import hard_labels, soft_labels
from models.training.loss_config import LossConfig

VARIANCE_EPS = 1e-8  # keeps the CCC of a batch of one row finite


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a batch, and what it is made of."""

    total: Float[Tensor, ""]
    parts: Float[Tensor, "3"]
    """Without a gradient: of valence, of arousal and of the regions, weighted as in the total."""


def head_loss(
    output: HeadOutput, targets: Targets, config: LossConfig, grid: Grid
) -> Float[Tensor, ""]:
    """(1 - CCC_V) + (1 - CCC_A) + lambda * KL over the valid rows (Jung et al., 2026).

    The config weighs V and A, chooses the CCC of the batch or of each window, and may add a mean
    squared error. The region loss counts the annotated rows that have region logits.
    """
    return loss_with_parts(output, targets, config, grid).total


def loss_with_parts(output: HeadOutput, targets: Targets, config: LossConfig, grid: Grid) -> Loss:
    """Return the same loss with its parts; the part of the regions is 0 without a region loss."""
    match config.ccc:
        case "batch":
            agreement = ccc(output.va, targets)
        case "sequence":
            agreement = ccc_per_window(output.va, targets)
        case _:
            assert_never(config.ccc)
    valence, arousal = _weighted(1 - agreement, config)
    total, regions = valence + arousal, torch.zeros_like(valence)
    if config.mse_weight:
        of_valence, of_arousal = _weighted(mse(output.va, targets), config)
        total = total + config.mse_weight * (of_valence + of_arousal)
        valence = valence + config.mse_weight * of_valence
        arousal = arousal + config.mse_weight * of_arousal
    if output.regions is not None and config.region_weight:
        valid = targets.valid & output.regions.valid
        match config.region_labels:
            case "soft":
                labels = soft_labels(targets.va, config.sigma, grid)
            case "hard":
                labels = hard_labels(targets.va, grid)
            case _:
                assert_never(config.region_labels)
        regions = config.region_weight * region_kl(output.regions.logits, labels, valid)
        total = total + regions
    return Loss(total, torch.stack([valence, arousal, regions]).detach())


def _weighted(
    terms: Float[Tensor, "2"], config: LossConfig
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Weighted V and A; Python numbers as weights, as a GPU would wait for a tensor."""
    return config.valence_weight * terms[0], config.arousal_weight * terms[1]


def ccc(predicted: Float[Tensor, "B P 2"], targets: Targets) -> Float[Tensor, "2"]:
    """CCC of V and of A over all valid rows of the batch together, biased variances."""
    return _ccc(predicted, targets, dims=(0, 1))[0, 0]


def ccc_per_window(predicted: Float[Tensor, "B P 2"], targets: Targets) -> Float[Tensor, "2"]:
    """The mean CCC of the windows that have a valid row."""
    counts = targets.valid.any(dim=1).to(predicted.dtype)  # (B,)
    each = _ccc(predicted, targets, dims=(1,))[:, 0]  # (B, 2)
    return (each * counts[:, None]).sum(dim=0) / counts.sum().clamp(min=1)


def _ccc(
    predicted: Float[Tensor, "B P 2"], targets: Targets, dims: tuple[int, ...]
) -> Float[Tensor, "#B 1 2"]:
    """CCC over some axes, by masked sums: indexing the valid rows would make a GPU wait."""
    weight = targets.valid.unsqueeze(-1).to(predicted.dtype)  # (B, P, 1)
    weight = weight / weight.sum(dim=dims, keepdim=True).clamp(min=1)

    def mean(x: Float[Tensor, "B P 2"]) -> Float[Tensor, "#B 1 2"]:
        return (x * weight).sum(dim=dims, keepdim=True)

    mean_truth, mean_predicted = mean(targets.va), mean(predicted)
    from_truth, from_predicted = targets.va - mean_truth, predicted - mean_predicted
    variances = mean(from_truth.square()) + mean(from_predicted.square())
    apart = (mean_truth - mean_predicted).square()
    return 2 * mean(from_truth * from_predicted) / (variances + apart + VARIANCE_EPS)


def mse(predicted: Float[Tensor, "B P 2"], targets: Targets) -> Float[Tensor, "2"]:
    """Mean squared error of V and of A over the valid rows."""
    valid = targets.valid.unsqueeze(-1)  # (B, P, 1)
    squared = ((predicted - targets.va).square() * valid).sum(dim=(0, 1))
    return squared / valid.sum().clamp(min=1)


def region_kl(
    logits: Float[Tensor, "B P R"], labels: Float[Tensor, "B P R"], valid: Bool[Tensor, "B P"]
) -> Float[Tensor, ""]:
    """Mean KL divergence of the softmax of the logits from the labels, over the valid rows.

    For hard labels it is the cross-entropy.
    """
    divergence = torch.nn.functional.kl_div(
        logits.log_softmax(dim=-1), labels, reduction="none"
    ).sum(dim=-1)  # (B, P)
    return (divergence * valid).sum() / valid.sum().clamp(min=1)
