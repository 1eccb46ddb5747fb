"""Multi-head attention over valid rows, for self-attention and cross-modal attention.

H is the number of heads, E the width of one head, W = H * E, S the number of key rows.
"""

import math

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.nn.cpu_dropout import Dropout

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
    dropout_p: float = 0.0,
) -> Float[Tensor, "B T H*E"]:
    """Scaled dot-product attention to the valid rows (Vaswani et al., 2017, sec. 3.2).

    The heads are joined. A weight is dropped with probability `dropout_p`, which is for training.
    In a window without a valid row the output and its gradient are zero.
    """
    empty = ~valid.any(dim=1)  # (B,)
    # Some kernels return NaN for a softmax over no key: an empty window attends to every row, and
    # its output is then set to zero (`test_attention.py::test_a_blank_window_finds_nothing`).
    mask = valid | empty.unsqueeze(1)  # (B, S)
    attended = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask[:, None, None, :], dropout_p=dropout_p
    )  # (B, H, T, E)
    return attended.transpose(1, 2).flatten(2).masked_fill(empty[:, None, None], 0)


def attention_weights(
    query: Float[Tensor, "B H T E"], key: Float[Tensor, "B H S E"], valid: Bool[Tensor, "B S"]
) -> Float[Tensor, "B H T S"]:
    """The weights with which `attend` sums the values; all 0 in a window without a valid row.

    `attend` does not compute them one by one, so that asking for them costs a training nothing.
    """
    logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    closed = ~valid[:, None, None, :]
    empty = closed.all(dim=-1, keepdim=True)
    return logits.masked_fill(closed & ~empty, -math.inf).softmax(dim=-1).masked_fill(empty, 0)


def feed_forward(width: int, dropout: float = 0.0) -> nn.Sequential:
    """Linear W -> 4W, ReLU, dropout, Linear 4W -> W (Vaswani et al., 2017, sec. 3.3)."""
    inner = FFN_RATIO * width
    return nn.Sequential(nn.Linear(width, inner), relu(dropout), nn.Linear(inner, width))


def relu(dropout: float) -> nn.Module:
    """ReLU and dropout as one module, so that the names of later weights are as without dropout."""
    return nn.Sequential(nn.ReLU(), Dropout(dropout)) if dropout else nn.ReLU()


def xavier_(query: nn.Linear, key: nn.Linear, value: nn.Linear, out: nn.Linear) -> None:
    """Draw the projections of an attention as `nn.MultiheadAttention` does.

    There query, key and value are one matrix W -> 3W, so the bound of the uniform distribution is
    sqrt(6 / (W + 3W)) (Glorot and Bengio, 2010, eq. 16). All biases are zero.
    """
    bound = math.sqrt(6 / (4 * query.in_features))
    for projection in (query, key, value):
        nn.init.uniform_(projection.weight, -bound, bound)
    for projection in (query, key, value, out):
        nn.init.zeros_(projection.bias)
