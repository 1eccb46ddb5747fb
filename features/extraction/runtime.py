"""A device that one process holds, the encoders on it, and what reads for them: loaded once."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from features.encoders import AnyEncoderConfig
from features.encoders.base import Encoder
from features.media.decoder import Decoder
from features.media.limits import DecodeLimits
from features.spec import FeatureSpec
from features.system.devices import DeviceName, acquire_device, torch_device
from features.system.locks import HeldLock
from features.system.parallel import n_cores

log = logging.getLogger(__name__)


class Runtime:
    """Where extraction runs; it takes the device when the first encoder is asked for.

    A GPU is held by a lock that the kernel frees when the process ends; a run of the same user
    that finds no free one waits. The CPU is shared.
    """

    def __init__(self, name: DeviceName = "auto") -> None:
        self._allowed = torch_device(name)
        self._taken: tuple[torch.device, HeldLock | None] | None = None
        self._specs: dict[AnyEncoderConfig, FeatureSpec] = {}
        self._encoders: dict[AnyEncoderConfig, Encoder] = {}
        self._decoders: list[Decoder] = []

    @property
    def device(self) -> torch.device:
        """The device, held from here on."""
        if self._taken is None:
            self._taken = acquire_device(self._allowed)
        return self._taken[0]

    def spec(self, config: AnyEncoderConfig) -> FeatureSpec:
        """What an encoder's numbers are decided by; its weights are hashed once."""
        if config not in self._specs:
            self._specs[config] = config.spec()
        return self._specs[config]

    def encoder(self, config: AnyEncoderConfig) -> Encoder:
        """The encoder on the device; `WeightsError` where its weights do not fit."""
        if config not in self._encoders:
            self._encoders[config] = config.build(self.device)
        return self._encoders[config]

    @contextmanager
    def decoders(self, n_readers: int, limits: DecodeLimits) -> Iterator[list[Decoder]]:
        """So many decoders, which share the cores; their processes start, or did so for others.

        They are kept for whoever comes next, unless what is done with them fails.
        """
        if any(decoder.limits != limits for decoder in self._decoders):
            self._end_decoders()
        while len(self._decoders) < n_readers:
            decoder = Decoder(limits, max(1, n_cores() // n_readers))
            self._decoders.append(decoder)
            decoder.client.start()
        try:
            yield self._decoders[:n_readers]
        except BaseException:
            self._end_decoders()
            raise

    def _end_decoders(self) -> None:
        while self._decoders:
            self._decoders.pop().close()

    def close(self) -> None:
        """Let go of encoders and decoders, and let others have the device."""
        self._encoders.clear()
        self._end_decoders()
        if self._taken and (lock := self._taken[1]):
            lock.release()
        self._taken = None
