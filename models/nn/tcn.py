"""The temporal branch made of dilated convolutions; W is the width of a stream."""

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.nn.bigru import project_valid
from models.nn.cpu_dropout import Dropout

KERNEL = 3  # rows that one convolution reads (released configuration of Jung et al., 2026)
DILATIONS = (1, 2)  # of its two residual blocks
DROPOUT = 0.1  # after each of their convolutions

Padding = Literal["causal", "centred"]


class ResidualBlock(nn.Module):
    """x + f(x), f twice: dilated convolution, ReLU, dropout.

    Of Bai et al. (2018, sec. 3.3) without the weight normalisation and without a ReLU on the
    sum, as the released configuration of Jung et al. (2026) has it. Rows that are not valid,
    and those beyond the window, enter each convolution as zero.

    Shapes: x (B, W, T), valid (B, T) -> (B, W, T).
    """

    def __init__(self, width: int, dropout: float, dilation: int, padding: Padding) -> None:
        super().__init__()
        reach = (KERNEL - 1) * dilation
        self.pad = {"causal": (reach, 0), "centred": (reach // 2, reach // 2)}[padding]
        self.first = nn.Conv1d(width, width, KERNEL, dilation=dilation)
        self.second = nn.Conv1d(width, width, KERNEL, dilation=dilation)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B W T"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B W T"]:
        """The rows with what the convolutions saw around them."""
        unseen = ~valid.unsqueeze(1)  # (B, 1, T)
        y = x
        for convolution in (self.first, self.second):
            padded = F.pad(y.masked_fill(unseen, 0), self.pad)  # (B, W, T + reach)
            y = self.dropout(F.relu(convolution(padded)))
        return x + y


class Tcn(nn.Module):
    """One modality's rows, each read in the light of those just before it.

    Linear D -> W, then one residual block per dilation (Bai et al., 2018; Jung et al., 2026).
    Each block's two convolutions look 4 x dilation rows back: with dilations 1 and 2 a row
    knows itself and the 12 before it. With `centred` padding the same number of rows lies
    around it instead, 6 on either side; this suits scoring of whole recordings, as it looks
    ahead. A row that is not valid counts as zero; its own output says what its neighbours know.

    Shapes: x (B, T, D), valid (B, T) -> (B, T, W).
    """

    def __init__(
        self,
        n_inputs: int,
        width: int,
        dropout: float = DROPOUT,
        dilations: tuple[int, ...] = DILATIONS,
        padding: Padding = "causal",
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(n_inputs, width)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, dropout, dilation, padding) for dilation in dilations
        )

    def forward(
        self, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T W"]:
        """The rows' states, also where the row itself is not valid."""
        states = project_valid(self.projection, x, valid).transpose(1, 2)  # (B, W, T)
        for block in self.blocks:
            states = block(states, valid)
        return states.transpose(1, 2)  # (B, T, W)
