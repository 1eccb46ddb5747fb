"""The losses, each a mean over the valid rows of a batch, and their sum."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.heads.base import HeadConfig, HeadOutput
from models.regions import soft_labels

VARIANCE_EPS = 1e-8  # keeps the CCC of a batch of one row finite


@dataclass(frozen=True, slots=True)
class Targets:
    """The truth of a batch's rows."""

    va: Float[Tensor, "B T 2"]
    """0 where not valid."""
    valid: Bool[Tensor, "B T"]


def head_loss(output: HeadOutput, targets: Targets, config: HeadConfig) -> Float[Tensor, ""]:
    """(1 - CCC_V) + (1 - CCC_A) + lambda * KL, over the valid rows (Jung et al., 2026)."""
    loss = (1 - ccc(output.va, targets)).sum()
    if output.regions is None or not config.region_weight:
        return loss
    valid = targets.valid & output.regions.valid
    kl = region_kl(output.regions.logits, soft_labels(targets.va, config.sigma), valid)
    return loss + config.region_weight * kl


def ccc(predicted: Float[Tensor, "B T 2"], targets: Targets) -> Float[Tensor, "2"]:
    """CCC of V and of A over all valid rows of the batch together, biased variances.

    Masked sums, for picking the valid rows would make a GPU wait.
    """
    weight = targets.valid.unsqueeze(-1).to(predicted.dtype)  # (B, T, 1)
    weight = weight / weight.sum().clamp(min=1)

    def mean(x: Float[Tensor, "B T 2"]) -> Float[Tensor, "2"]:
        return (x * weight).sum(dim=(0, 1))

    mean_truth, mean_predicted = mean(targets.va), mean(predicted)
    from_truth, from_predicted = targets.va - mean_truth, predicted - mean_predicted
    variances = mean(from_truth.square()) + mean(from_predicted.square())
    apart = (mean_truth - mean_predicted).square()
    return 2 * mean(from_truth * from_predicted) / (variances + apart + VARIANCE_EPS)


def region_kl(
    logits: Float[Tensor, "B T R"], labels: Float[Tensor, "B T R"], valid: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """Mean KL divergence of the regions' softmax from the soft label, over the valid rows."""
    divergence = torch.nn.functional.kl_div(
        logits.log_softmax(dim=-1), labels, reduction="none"
    ).sum(dim=-1)  # (B, T)
    return (divergence * valid).sum() / valid.sum().clamp(min=1)
