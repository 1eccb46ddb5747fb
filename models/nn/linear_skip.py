"""A linear reading of V and A beside the network, as wide as its input (Cheng et al., 2016)."""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.nn.cpu_dropout import Dropout


class LinearSkip(nn.Module):
    """V and A as linear functions of a row and of the means of spans about it.

    What ridge regression on neighbouring frames can say, the network need not learn by heart.
    Zero at the start.

    Shapes: x (B, T, D), valid (B, T) -> (B, T, 2).
    """

    def __init__(self, n_inputs: int, spans: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.spans = (1, *spans)
        self.dropout = Dropout(dropout)
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
        if self.training and self.dropout.p:
            means = moving_means(x, seen, self.spans)  # (B, T, D) each
            dropped = [self.dropout(mean) for mean in means]
            return sum_of(linear(mean) for linear, mean in zip(self.of_span, dropped, strict=True))
        # Without dropout between them a mean and a linear map may change places: 2 numbers of a
        # row are averaged, not D (`test_skip.py::test_it_equals_numpy_on_its_own_weights`).
        told = [linear(x) for linear in self.of_span]  # (B, T, 2) each
        return sum_of(
            moving_means(part, seen, (span,))[0]
            for span, part in zip(self.spans, told, strict=True)
        )


def sum_of(parts: Iterable[Float[Tensor, "*N"]]) -> Float[Tensor, "*N"]:
    """Their sum; there is at least one."""
    return reduce(add, parts)


def moving_means(
    x: Float[Tensor, "B T K"], valid: Bool[Tensor, "B T 1"], spans: Sequence[int]
) -> list[Float[Tensor, "B T K"]]:
    """For each span the mean over the valid rows among so many about each row; 0 where none is.

    A span has as many rows before a row as after it, or one more before. `x` is 0 where it is
    not valid; all spans share its running sum.
    """
    reach = max(spans)
    total, count = _running(x, reach), _running(valid.to(x.dtype), reach)

    def mean(span: int) -> Float[Tensor, "B T K"]:
        if span == 1:
            return x
        n_rows, start = x.shape[1], reach - span // 2
        before, until = slice(start, start + n_rows), slice(start + span, start + span + n_rows)
        n = (count[:, until] - count[:, before]).clamp(min=1)  # (B, T, 1)
        return (total[:, until] - total[:, before]) / n

    return [mean(span) for span in spans]


def _running(values: Float[Tensor, "B T K"], reach: int) -> Float[Tensor, "B P K"]:
    """At place `reach` + t the sum of the rows before t; it stays as it is beyond both ends."""
    total = values.cumsum(dim=1)
    before = values.new_zeros(1).expand(len(values), reach + 1, values.shape[2])
    return torch.cat([before, total, total[:, -1:].expand(-1, reach, -1)], dim=1)
