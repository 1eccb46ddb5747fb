"""What a process loads once for all its extractions: the device, the encoders, the decoders."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from features.encoders.base import Encoder
from features.extraction.options import AnySetConfig
from features.media.decoder import Decoder
from features.media.limits import DecodeLimits
from features.system.devices import DeviceName, acquire_device, torch_device
from features.system.locks import HeldLock
from features.system.parallel import n_cores


class Runtime:
    """Holds the device, the encoders on it, and the decoding processes.

    A GPU is locked when `device` or the first encoder is asked for; the kernel frees the lock when
    the process ends. Another extraction of the same user waits until a GPU is free. The CPU is
    shared. Raises `InputError` if the device does not exist.
    """

    def __init__(self, name: DeviceName = "auto") -> None:
        self._allowed = torch_device(name)
        self._acquired: tuple[torch.device, HeldLock | None] | None = None
        self._encoders: dict[AnySetConfig, Encoder] = {}
        self._decoders: list[Decoder] = []

    @property
    def device(self) -> torch.device:
        """The device, locked from the first access on."""
        if self._acquired is None:
            self._acquired = acquire_device(self._allowed)
        return self._acquired[0]

    def encoder(self, config: AnySetConfig) -> Encoder:
        """The encoder on the device; raises `WeightsError` if its weights do not fit."""
        if config not in self._encoders:
            self._encoders[config] = config.build(self.device)
        return self._encoders[config]

    @contextmanager
    def decoders(self, n_readers: int, limits: DecodeLimits) -> Iterator[list[Decoder]]:
        """Decoders that share the cores, one for each reader.

        Their processes are kept for the next call, unless its limits differ or the `with` block
        raises.
        """
        if any(decoder.limits != limits for decoder in self._decoders):
            self._close_decoders()
        while len(self._decoders) < n_readers:
            decoder = Decoder(limits, max(1, n_cores() // n_readers))
            self._decoders.append(decoder)
            decoder.client.start()
        try:
            yield self._decoders[:n_readers]
        except BaseException:
            self._close_decoders()
            raise

    def _close_decoders(self) -> None:
        while self._decoders:
            self._decoders.pop().close()

    def close(self) -> None:
        """Delete the encoders, end the decoding processes, and release the device."""
        self._encoders.clear()
        self._close_decoders()
        if self._acquired and (lock := self._acquired[1]):
            lock.release()
        self._acquired = None
