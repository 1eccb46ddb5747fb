"""Which windows a head trains on and is scored on."""

from models.data.packed import PackedFeatures
from models.data.windows import Windows, causal_windows, dense_windows
from models.heads.base import HeadConfig
from models.training.config import TrainConfig


def training_windows(bank: PackedFeatures, head: HeadConfig, config: TrainConfig) -> Windows:
    """The windows that a pass over the bank trains on."""
    if head.windows == "causal":
        return causal_windows(bank.offsets, bank.time_s, stride=config.causal_stride)
    return dense_windows(bank.offsets, size=config.window, stride=config.stride)


def scoring_windows(bank: PackedFeatures, head: HeadConfig, *, size: int, stride: int) -> Windows:
    """Windows that predict every row of the bank."""
    if head.windows == "causal":
        return causal_windows(bank.offsets, bank.time_s, stride=1)
    return dense_windows(bank.offsets, size=size, stride=stride)
