"""The recurrent temporal branch, and the way into every branch: valid rows at its width.

A temporal branch puts what came before and after into each row. All are called alike, as
x (B, T, D), valid (B, T) -> (B, T, W), and none sees what is behind the mask. The others are
in tcn.py and transformer.py. W is the width of a stream.
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.nn.cpu_gru import bidirectional_gru


def project_valid(
    projection: nn.Linear, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T W"]:
    """The rows at the branch's width; one that is not valid is zero, whatever it held."""
    unseen = ~valid.unsqueeze(-1)  # (B, T, 1)
    # Before the projection, too: a NaN behind the mask would reach the gradient of its weights
    # (`test_temporal.py::test_nan_behind_the_mask_reaches_no_gradient`).
    return projection(x.masked_fill(unseen, 0)).masked_fill(unseen, 0)


class BiGru(nn.Module):
    """One modality's rows, each read in the light of the whole window.

    Linear D -> W, bidirectional GRU of W per direction, Linear 2W -> W. A row that is not
    valid enters the recurrence as zero: time passes, nothing is seen
    (`test_temporal.py::test_what_is_behind_the_mask_does_not_matter`).

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
        """The window's states, one per row, also where the row itself is not valid."""
        rows = project_valid(self.projection, x, valid)
        # cuDNN is the faster one on a GPU, ours on a CPU (benchmarks/train.py)
        states = bidirectional_gru(self.gru, rows) if rows.is_cpu else self.gru(rows)[0]
        return self.merge(states)  # from (B, T, 2W)
