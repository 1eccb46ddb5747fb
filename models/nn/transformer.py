"""The temporal branch of self-attention, and its two position encodings.

W is the width of a stream, H the number of heads, E the width of one head.
"""

from typing import assert_never

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.nn.attention import attend, check_heads, feed_forward, split_heads
from models.nn.bigru import project_valid
from models.nn.cpu_dropout import Dropout
from models.nn.kinds import Positions

ROTARY_BASE = 10_000  # of the wavelengths, in rows / 2 pi (Su et al., 2021, sec. 3.2.2)
LEARNED_STD = 0.02  # initial standard deviation of learned positions (Devlin et al., 2019)


def rotate(x: Float[Tensor, "B H T E"]) -> Float[Tensor, "B H T E"]:
    """Rotate queries or keys by the position of their row (Su et al., 2021, sec. 3.2.2).

    Features 2i and 2i + 1 of row t are rotated in their plane by t * 10000^(-2i/E), so that the
    product of a query and a key depends on the distance between their rows only. E must be even.
    """
    n_rows, head_width = x.shape[-2:]
    # In float32 whatever the precision of x: bfloat16 cannot count beyond 256.
    rows = torch.arange(n_rows, device=x.device, dtype=torch.float32)
    pairs = torch.arange(0, head_width, 2, device=x.device, dtype=torch.float32)
    angles = rows[:, None] * ROTARY_BASE ** (-pairs / head_width)  # (T, E/2)
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)  # (B, H, T, E/2) each
    rotated = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return rotated.flatten(-2)


class LearnedPositions(nn.Module):
    """Adds a learned vector to each row by its index in the window (Devlin et al., 2019).

    Shapes: x (B, T, W) -> (B, T, W). Raises `ValueError` if T is more than `n_rows_max`.
    """

    def __init__(self, n_rows_max: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(n_rows_max, width))
        nn.init.normal_(self.table, std=LEARNED_STD)

    def forward(self, x: Float[Tensor, "B T W"]) -> Float[Tensor, "B T W"]:
        """The rows with their positions added."""
        n_rows, n_rows_max = x.shape[1], len(self.table)
        if n_rows > n_rows_max:
            raise ValueError(
                f"a window of {n_rows} rows is longer than the {n_rows_max} learned positions: "
                "set train.window to no more, or positions to rotary"
            )
        return x + self.table[:n_rows]


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward part, each x + dropout(f(LayerNorm(x))).

    Pre-norm (Xiong et al., 2020). With `rotary`, queries and keys are rotated by their position.
    Rows that are not valid are queries, but no keys.

    Shapes: x (B, T, W), valid (B, T) -> (B, T, W).
    """

    def __init__(self, width: int, n_heads: int, dropout: float, rotary: bool) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.rotary = rotary
        self.norm_attended = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.norm_inner = nn.LayerNorm(width)
        self.feed_forward = feed_forward(width)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "B T W"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T W"]:
        """The rows with context."""
        y = self.norm_attended(x)
        query, key, value = (
            split_heads(projection(y), self.n_heads)
            for projection in (self.query, self.key, self.value)
        )
        if self.rotary:
            query, key = rotate(query), rotate(key)
        attended = attend(query, key, value, valid)
        x = x + self.dropout(self.out(attended))
        return x + self.dropout(self.feed_forward(self.norm_inner(x)))


class TemporalTransformer(nn.Module):
    """Linear D -> W, `n_layers` encoder layers (Vaswani et al., 2017), LayerNorm.

    Every row attends to every valid row of the window. A row that is not valid counts as zero and
    has an output from the others. `n_rows_max` is the longest window for `learned` positions;
    `rotary` positions have no limit and ignore it.

    Shapes: x (B, T, D), valid (B, T) -> (B, T, W). Raises `ValueError` if the heads do not divide
    the width, or if the width of a head is odd and positions are rotary.
    """

    def __init__(
        self,
        n_inputs: int,
        width: int,
        n_heads: int,
        n_layers: int,
        dropout: float,
        positions: Positions,
        n_rows_max: int,
    ) -> None:
        super().__init__()
        check_heads(width, n_heads)
        self.projection = nn.Linear(n_inputs, width)
        match positions:
            case "rotary":
                self.positions = nn.Identity()
                if (head_width := width // n_heads) % 2:
                    raise ValueError(
                        "rotary positions turn pairs of numbers, and a head's width "
                        f"({head_width}) is odd: make width / n_heads even, or use learned "
                        "positions"
                    )
            case "learned":
                self.positions = LearnedPositions(n_rows_max, width)
            case _:
                assert_never(positions)
        self.layers = nn.ModuleList(
            EncoderLayer(width, n_heads, dropout, positions == "rotary") for _ in range(n_layers)
        )
        self.norm_out = nn.LayerNorm(width)

    def forward(
        self, x: Float[Tensor, "B T D"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T W"]:
        """The state of each row."""
        states = self.positions(project_valid(self.projection, x, valid))
        for layer in self.layers:
            states = layer(states, valid)
        return self.norm_out(states)
