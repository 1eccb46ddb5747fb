"""A linear reading of V and A beside the network, as wide as its input (Cheng et al., 2016)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


class LinearSkip(nn.Module):
    """V and A as linear functions of a row and of the means of spans about it.

    What ridge regression on neighbouring frames can say, the network need not learn by heart.
    Zero at the start.

    Shapes: x (B, T, D), valid (B, T) -> (B, T, 2).
    """

    def __init__(self, n_inputs: int, spans: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.spans = (1, *spans)
        self.dropout = dropout
        linears = [nn.Linear(n_inputs, 2, bias=False) for _ in self.spans]
        for linear in linears:
            nn.init.zeros_(linear.weight)
        self.of_span = nn.ModuleList(linears)

    def forward(
        self, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T 2"]:
        """The sum over the spans; a row that is not valid counts in no mean."""
        seen = valid.unsqueeze(-1)  # (B, T, 1)
        x = x.masked_fill(~seen, 0)
        total = torch.zeros_like(x[..., :2])
        for span, linear in zip(self.spans, self.of_span, strict=True):
            near = moving_mean(x, seen, span)  # (B, T, D)
            total = total + linear(F.dropout(near, self.dropout, self.training))
        return total


def moving_mean(
    x: Float[Tensor, "B T K"], valid: Bool[Tensor, "B T 1"], span: int
) -> Float[Tensor, "B T K"]:
    """Mean over the valid rows among the `span` rows about each; 0 where there is none.

    The span has as many rows before a row as after it, or one more before. `x` is 0 where it is
    not valid.
    """
    if span == 1:
        return x
    n_rows = x.shape[1]
    place = torch.arange(n_rows, device=x.device)
    start = (place - span // 2).clamp(min=0)
    stop = (place - span // 2 + span).clamp(max=n_rows)

    def summed(values: Float[Tensor, "B T _"]) -> Float[Tensor, "B T _"]:
        running = F.pad(values.cumsum(dim=1), (0, 0, 1, 0))  # (B, T + 1, _), from 0
        return running[:, stop] - running[:, start]

    return summed(x) / summed(valid.to(x.dtype)).clamp(min=1)
