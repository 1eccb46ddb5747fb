"""Multi-head attention over valid rows, shared by the attention across streams and within one.

S is the number of rows that are looked at, H of heads, E the width of one head, W = H * E.
"""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

FFN_RATIO = 4  # inner width of the feed-forward part (Vaswani et al., 2017, sec. 3.3)


def check_heads(width: int, n_heads: int) -> None:
    """`ValueError` where the heads cannot share the width evenly."""
    if width % n_heads:
        raise ValueError(f"width ({width}) must be a multiple of the number of heads ({n_heads})")


def split_heads(x: Float[Tensor, "B T W"], n_heads: int) -> Float[Tensor, "B H T E"]:
    """The heads apart, as `attend` takes them."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)


def attend(
    query: Float[Tensor, "B H T E"],
    key: Float[Tensor, "B H S E"],
    value: Float[Tensor, "B H S E"],
    valid: Bool[Tensor, "B S"],
) -> Float[Tensor, "B T H*E"]:
    """What each row finds among the valid ones, heads joined (Vaswani et al., 2017, sec. 3.2).

    In a window without any valid row nothing is found: zeros, with a gradient of zero.
    """
    blank = ~valid.any(dim=1)  # (B,)
    # Not every kernel promises zeros for a softmax over nothing (some made NaN of it): a blank
    # window looks everywhere, then drops what it saw
    # (`test_attention.py::test_a_blank_window_finds_nothing`).
    looked_at = valid | blank.unsqueeze(1)  # (B, S)
    found = F.scaled_dot_product_attention(
        query, key, value, attn_mask=looked_at[:, None, None, :]
    )  # (B, H, T, E)
    return found.transpose(1, 2).flatten(2).masked_fill(blank[:, None, None], 0)


def feed_forward(width: int) -> nn.Sequential:
    """Linear W -> 4W, ReLU, Linear 4W -> W, on each row alone (Vaswani et al., 2017, sec. 3.3)."""
    inner = FFN_RATIO * width
    return nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))
