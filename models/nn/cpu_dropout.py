"""Dropout (Srivastava et al., 2014) that a CPU draws as fast as it multiplies.

torch draws a number in double precision for each number that may be dropped, one by one: a fifth
of a training step of the released head on a CPU. Sixteen bits say as much, and come four at a time.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BITS = 16  # a share is rounded to 1/65536
LANES = 64 // BITS  # draws in a number of 64 bits


class Dropout(nn.Module):
    """As `nn.Dropout`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """What is left in training; `x` itself otherwise."""
        return dropout(x, self.p) if self.training else x


def dropout(x: Float[Tensor, "*N"], share: float) -> Float[Tensor, "*N"]:
    """`x` with so large a share of its numbers made 0, the others larger so that the mean stays.

    Drawn from torch's generator. On a CPU the share is rounded to 1/65536.
    """
    n_dropped = round(share * 2**BITS)  # of so many values of a draw
    if not x.is_cpu or n_dropped == 2**BITS:
        return F.dropout(x, share)
    if not n_dropped:
        return x
    drawn = torch.empty(-(-x.numel() // LANES), dtype=torch.int64).random_(-(2**63), None)
    draws = drawn.view(torch.int16)[: x.numel()].view(x.shape)
    left = (draws >= n_dropped - 2 ** (BITS - 1)).to(x.dtype)
    return x * left.div_(1 - n_dropped / 2**BITS)
