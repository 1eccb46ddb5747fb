"""Mean and standard deviation of the input features."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float16, Int64
from torch import Tensor

from models.data.packed import ROWS_AT_ONCE

STD_FLOOR = 1e-6  # a dimension that varies less is constant, and is not scaled


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and standard deviation of each dimension of an embedding over the training rows."""

    mean: Float[Tensor, "D"]
    std: Float[Tensor, "D"]
    """Positive; 1 for a constant dimension."""


def statistics(
    values: Float16[Tensor, "M D"],
    valid: Bool[Tensor, "N"],
    index: Int64[Tensor, "N"] | None = None,
) -> Statistics:
    """Return mean and deviation of the valid rows, summed in float64; 0 and 1 if none is valid.

    Row n is `values[index[n]]`, or `values[n]` without an index.
    """
    weights = valid.double().split(ROWS_AT_ONCE)
    parts = (values if index is None else index).split(ROWS_AT_ONCE)
    n = valid.double().sum().clamp(min=1)
    mean, square = torch.zeros(2, values.shape[1], dtype=torch.float64, device=values.device)

    def rows(part: Tensor) -> Tensor:
        return (part if index is None else values.index_select(0, part)).double()

    for part, weight in zip(parts, weights, strict=True):
        mean += weight @ rows(part) / n
    for part, weight in zip(parts, weights, strict=True):
        square += weight @ (rows(part) - mean).square() / n
    std = square.sqrt()
    return Statistics(mean.float(), torch.where(std < STD_FLOOR, 1.0, std).float())
