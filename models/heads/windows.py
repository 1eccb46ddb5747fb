"""The windows of packed rows that a head reads."""

from typing import assert_never

from models.data.packed import PackedFeatures
from models.data.windows import Windows, causal_windows, dense_windows
from models.heads.config import HeadConfig


def head_windows(
    packed: PackedFeatures, head: HeadConfig, *, size: int, stride: int, causal_stride: int = 1
) -> Windows:
    """Return windows that together predict every row, unless `causal_stride` skips targets.

    Size and stride, in rows, are of dense windows, `causal_stride` of causal windows.
    """
    match head.windows:
        case "dense":
            return dense_windows(packed.offsets, size=size, stride=stride)
        case "causal":
            return causal_windows(packed.offsets, packed.time_s, stride=causal_stride)
        case _:
            assert_never(head.windows)
