"""The options of an extraction."""

from dataclasses import dataclass

from features.encoders import AnyEncoderConfig
from features.media.limits import DecodeLimits
from features.system.devices import DeviceName


@dataclass(frozen=True, slots=True)
class ExtractionOptions:
    """What is to be extracted, and how: the keys of `extract-features`."""

    store: str
    encoders: tuple[AnyEncoderConfig, ...]
    device: DeviceName
    batch_size: int | None
    readers: int | None
    limits: DecodeLimits
    failed: bool
    force: bool
