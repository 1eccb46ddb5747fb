"""The windows by which a head predicts every row."""

from typing import assert_never

from models.data.packed import PackedFeatures
from models.data.windows import Windows, causal_windows, dense_windows
from models.heads.config import HeadConfig


def scoring_windows(bank: PackedFeatures, head: HeadConfig, *, size: int, stride: int) -> Windows:
    """Windows that together predict every row; size and stride, in rows, are of dense windows."""
    match head.windows:
        case "dense":
            return dense_windows(bank.offsets, size=size, stride=stride)
        case "causal":
            return causal_windows(bank.offsets, bank.time_s, stride=1)
        case _:
            assert_never(head.windows)
