"""Dropout (Srivastava et al., 2014) with fast random numbers on a CPU.

torch draws a double per element, which takes a fifth of a training step of the released head on a
CPU. Here an element takes 16 bits of a 64-bit number.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

BITS = 16  # the probability is rounded to 1/65536
LANES = 64 // BITS  # draws in a 64-bit number


class Dropout(nn.Module):
    """As `nn.Dropout`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """`x` after dropout in training, `x` itself otherwise."""
        return dropout(x, self.p) if self.training else x


def dropout(x: Float[Tensor, "*N"], p: float) -> Float[Tensor, "*N"]:
    """`x` with elements set to zero with probability p, and the others scaled by 1 / (1 - p).

    Draws from torch's generator. On a CPU p is rounded to 1/65536.
    """
    n_dropped = round(p * 2**BITS)  # values of a draw that drop the element
    if not x.is_cpu or n_dropped == 2**BITS:
        return F.dropout(x, p)
    if not n_dropped:
        return x
    drawn = torch.empty(-(-x.numel() // LANES), dtype=torch.int64).random_(-(2**63), None)
    draws = drawn.view(torch.int16)[: x.numel()].view(x.shape)
    kept = (draws >= n_dropped - 2 ** (BITS - 1)).to(x.dtype)
    return x * kept.div_(1 - n_dropped / 2**BITS)
