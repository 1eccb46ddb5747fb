"""The recurrent temporal branch, and the projection that every temporal branch begins with.

A temporal branch adds context to each row: x (B, T, D), valid (B, T) -> (B, T, W), where W is the
width of a stream. Values of rows that are not valid do not matter.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.nn.cpu_gru import bidirectional_gru


def project_valid(
    projection: nn.Linear, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T W"]:
    """The projected rows; zero for rows that are not valid."""
    invalid = ~valid.unsqueeze(-1)  # (B, T, 1)
    # Masked before the projection too: a NaN there would reach the gradient of the weights
    # (`test_bigru.py::test_nan_behind_the_mask_reaches_no_gradient`).
    return projection(x.masked_fill(invalid, 0)).masked_fill(invalid, 0)


class BiGru(nn.Module):
    """Linear D -> W, bidirectional GRU of W per direction, Linear 2W -> W.

    A row that is not valid enters the GRU as zero, and has an output from its neighbours
    (`test_bigru.py::test_what_is_behind_the_mask_does_not_matter`).

    Shapes: x (B, T, D), valid (B, T) -> (B, T, W).
    """

    def __init__(self, n_inputs: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(n_inputs, width)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.merge = nn.Linear(2 * width, width)

    def forward(
        self, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T W"]:
        """The state of each row."""
        rows = project_valid(self.projection, x, valid)
        # cuDNN is faster on a GPU, this project's GRU on a CPU (benchmarks/train.py).
        # An exported program has torch's, which is one operation for any number of rows.
        is_own = rows.is_cpu and not torch.compiler.is_exporting()
        states = bidirectional_gru(self.gru, rows) if is_own else self.gru(rows)[0]
        return self.merge(states)
