"""Mean and standard deviation of the input features."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float16
from torch import Tensor

from models.data.packed import ROWS_AT_ONCE

STD_FLOOR = 1e-6  # a number that varies less is constant: it is left unscaled


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and standard deviation of each number of an embedding, over the training rows."""

    mean: Float[Tensor, "D"]
    std: Float[Tensor, "D"]
    """Positive; 1 where the number is constant."""


def statistics(values: Float16[Tensor, "N D"], valid: Bool[Tensor, "N"]) -> Statistics:
    """Mean and deviation over the valid rows, summed in float64; 0 and 1 where there is none."""
    width = values.shape[1]
    weight = valid.double()
    n = weight.sum().clamp(min=1)
    mean, square = torch.zeros(2, width, dtype=torch.float64, device=values.device)
    for rows, part in zip(values.split(ROWS_AT_ONCE), weight.split(ROWS_AT_ONCE), strict=True):
        mean += part @ rows.double() / n
    for rows, part in zip(values.split(ROWS_AT_ONCE), weight.split(ROWS_AT_ONCE), strict=True):
        square += part @ (rows.double() - mean).square() / n
    std = square.sqrt()
    std = torch.where(std < STD_FLOOR, 1.0, std)
    return Statistics(mean.float(), std.float())
