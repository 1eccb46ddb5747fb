"""The temporal branch of dilated convolutions. W is the width of a stream."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.nn.bigru import project_valid
from models.nn.cpu_dropout import Dropout

KERNEL = 3  # rows per convolution (released configuration of Jung et al., 2026)
DILATIONS = (1, 2)  # of the two residual blocks
DROPOUT = 0.1  # after each convolution


class ResidualBlock(nn.Module):
    """x + f(x), where f is two times dilated convolution, ReLU, dropout.

    As in Bai et al. (2018, sec. 3.3), but without weight normalisation, and with a ReLU on the sum
    only if `relu_on_sum`. Rows that are not valid or lie before the window enter each convolution
    as zero.

    Shapes: x (B, W, T), valid (B, T) -> (B, W, T).
    """

    def __init__(
        self, width: int, dropout: float, dilation: int, *, relu_on_sum: bool = False
    ) -> None:
        super().__init__()
        self.relu_on_sum = relu_on_sum
        self.reach = (KERNEL - 1) * dilation
        self.first = nn.Conv1d(width, width, KERNEL, dilation=dilation)
        self.second = nn.Conv1d(width, width, KERNEL, dilation=dilation)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B W T"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B W T"]:
        """The rows with context."""
        invalid = ~valid.unsqueeze(1)  # (B, 1, T)
        y = x
        for convolution in (self.first, self.second):
            padded = F.pad(y.masked_fill(invalid, 0), (self.reach, 0))  # (B, W, T + reach)
            y = self.dropout(F.relu(convolution(padded)))
        return F.relu(x + y) if self.relu_on_sum else x + y


class Tcn(nn.Module):
    """Linear D -> W, then a residual block per dilation (Bai et al., 2018; Jung et al., 2026).

    With `as_released`, as in the released configuration of Jung et al. (2026): a ReLU on the sum
    of each block, and a Linear W -> W after the last one.

    The two convolutions of a block reach 4 x dilation rows back: with dilations 1 and 2 a row
    depends on itself and the 12 rows before it. A row that is not valid counts as zero, and has an
    output from its neighbours.

    Shapes: x (B, T, D), valid (B, T) -> (B, T, W).
    """

    def __init__(
        self,
        n_inputs: int,
        width: int,
        dropout: float = DROPOUT,
        dilations: tuple[int, ...] = DILATIONS,
        *,
        as_released: bool = False,
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(n_inputs, width)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, dropout, dilation, relu_on_sum=as_released)
            for dilation in dilations
        )
        self.out = nn.Linear(width, width) if as_released else nn.Identity()

    def forward(
        self, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T W"]:
        """The state of each row."""
        states = project_valid(self.projection, x, valid).transpose(1, 2)  # (B, W, T)
        for block in self.blocks:
            states = block(states, valid)
        return self.out(states.transpose(1, 2))
