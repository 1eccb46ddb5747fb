"""The windows that a head is trained on."""

from typing import assert_never

from models.data.packed import PackedFeatures
from models.data.windows import Windows, causal_windows, dense_windows
from models.heads.config import HeadConfig
from models.training.config import TrainConfig


def training_windows(bank: PackedFeatures, head: HeadConfig, config: TrainConfig) -> Windows:
    """The windows of one epoch."""
    match head.windows:
        case "dense":
            return dense_windows(bank.offsets, size=config.window, stride=config.stride)
        case "causal":
            return causal_windows(bank.offsets, bank.time_s, stride=config.causal_stride)
        case _:
            assert_never(head.windows)
