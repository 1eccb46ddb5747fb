"""Multi-head attention over valid rows, for self-attention and cross-modal attention.

H is the number of heads, E the width of one head, W = H * E, S the number of key rows.
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

FFN_RATIO = 4  # inner width of the feed-forward part (Vaswani et al., 2017, sec. 3.3)


def check_heads(width: int, n_heads: int) -> None:
    """Raises `ValueError` if the number of heads does not divide the width."""
    if width % n_heads:
        raise ValueError(f"width ({width}) must be a multiple of the number of heads ({n_heads})")


def split_heads(x: Float[Tensor, "B T W"], n_heads: int) -> Float[Tensor, "B H T E"]:
    """The heads as an axis of their own."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def attend(
    query: Float[Tensor, "B H T E"],
    key: Float[Tensor, "B H S E"],
    value: Float[Tensor, "B H S E"],
    valid: Bool[Tensor, "B S"],
) -> Float[Tensor, "B T H*E"]:
    """Scaled dot-product attention to the valid rows (Vaswani et al., 2017, sec. 3.2).

    The heads are joined. In a window without a valid row the output and its gradient are zero.
    """
    empty = ~valid.any(dim=1)  # (B,)
    # Some kernels return NaN for a softmax over no key: an empty window attends to every row, and
    # its output is then set to zero (`test_attention.py::test_a_blank_window_finds_nothing`).
    mask = valid | empty.unsqueeze(1)  # (B, S)
    attended = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask[:, None, None, :]
    )  # (B, H, T, E)
    return attended.transpose(1, 2).flatten(2).masked_fill(empty[:, None, None], 0)


def feed_forward(width: int) -> nn.Sequential:
    """Linear W -> 4W, ReLU, Linear 4W -> W (Vaswani et al., 2017, sec. 3.3)."""
    inner = FFN_RATIO * width
    return nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))
