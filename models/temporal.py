"""Temporal branches: what came before and after, put into each row."""

from jaxtyping import Bool, Float
from torch import Tensor, nn


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
        unseen = ~valid.unsqueeze(-1)  # (B, T, 1)
        projected = self.projection(x.masked_fill(unseen, 0)).masked_fill(unseen, 0)
        states, _ = self.gru(projected)  # (B, T, 2W)
        return self.merge(states)
