"""A linear skip connection from the embedding to V and A (wide & deep, Cheng et al., 2016)."""

from collections.abc import Sequence
from functools import reduce
from operator import add

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.nn.cpu_dropout import Dropout
from models.nn.old_tensors import load_old_names


class LinearSkip(nn.Module):
    """V and A as linear functions of a row and of moving averages about it; zero at the start.

    The network then need not learn what ridge regression on neighbouring frames can predict.

    Shapes: x (B, T, D), valid (B, T) -> (B, T, 2).
    """

    def __init__(self, n_inputs: int, spans: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.spans = (1, *spans)
        self.dropout = Dropout(dropout)
        linears = [nn.Linear(n_inputs, 2, bias=False) for _ in self.spans]
        for linear in linears:
            nn.init.zeros_(linear.weight)
        self.linears = nn.ModuleList(linears)
        load_old_names(self, {"of_span.": "linears."})

    def forward(
        self, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T 2"]:
        """The sum over the spans; rows that are not valid are left out of the averages."""
        mask = valid.unsqueeze(-1)  # (B, T, 1)
        x = x.masked_fill(~mask, 0)
        if self.training and self.dropout.p:
            means = moving_means(x, mask, self.spans)  # (B, T, D) each
            dropped = [self.dropout(mean) for mean in means]
            parts = [linear(mean) for linear, mean in zip(self.linears, dropped, strict=True)]
        else:
            # Without dropout between them a mean and a linear map commute: 2 numbers of a row are
            # averaged, not D (`test_linear_skip.py::test_it_equals_numpy_on_its_own_weights`).
            outputs = [linear(x) for linear in self.linears]  # (B, T, 2) each
            parts = [
                moving_means(output, mask, (span,))[0]
                for span, output in zip(self.spans, outputs, strict=True)
            ]
        return reduce(add, parts)


def moving_means(
    x: Float[Tensor, "B T K"], valid: Bool[Tensor, "B T 1"], spans: Sequence[int]
) -> list[Float[Tensor, "B T K"]]:
    """For each span the mean of the valid rows within it; 0 if there is none.

    A span has as many rows before its row as after it, or one more before. `x` must be 0 in rows
    that are not valid.
    """
    reach = max(spans)
    total, count = _cumulative(x, reach), _cumulative(valid.to(x.dtype), reach)

    def mean(span: int) -> Float[Tensor, "B T K"]:
        if span == 1:
            return x
        n_rows, start = x.shape[1], reach - span // 2
        first, stop = slice(start, start + n_rows), slice(start + span, start + span + n_rows)
        n = (count[:, stop] - count[:, first]).clamp(min=1)  # (B, T, 1)
        return (total[:, stop] - total[:, first]) / n

    return [mean(span) for span in spans]


def _cumulative(values: Float[Tensor, "B T K"], reach: int) -> Float[Tensor, "B P K"]:
    """At index `reach` + t the sum of the rows before t, padded by `reach` at both ends."""
    total = values.cumsum(dim=1)
    before = values.new_zeros(1).expand(values.shape[0], reach + 1, values.shape[2])
    return torch.cat([before, total, total[:, -1:].expand(-1, reach, -1)], dim=1)
