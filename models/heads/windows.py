"""The windows of packed rows that a head reads."""

from typing import assert_never

from models.data.packed import PackedFeatures
from models.data.windows import Windows, causal_windows, dense_windows
from models.heads.config import HeadConfig


def head_windows(
    packed: PackedFeatures,
    head: HeadConfig,
    *,
    size: int,
    stride: int,
    causal_stride: int = 1,
    causal_stride_s: float | None = None,
    causal_start_s: float = 0.0,
) -> Windows:
    """Return windows that together predict every row, unless the causal arguments skip targets.

    Size and stride, in rows, are of dense windows; for the others see `causal_windows`.
    """
    match head.windows:
        case "dense":
            return dense_windows(packed.offsets, size=size, stride=stride)
        case "causal":
            return causal_windows(
                packed.offsets,
                packed.time_s,
                stride=causal_stride,
                stride_s=causal_stride_s,
                start_s=causal_start_s,
            )
        case _:
            assert_never(head.windows)
