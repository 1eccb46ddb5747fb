"""SIGTERM during an extraction: clips that have begun are finished, then the process ends."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from features.system.signals import handling

log = logging.getLogger(__name__)


@contextmanager
def stop_between_clips() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether to begin another clip: not after SIGTERM.

    The previous handler receives the signal when the context ends, or at once if it comes twice.
    Outside the main thread, which alone receives signals, the function always returns True.
    """
    received = threading.Event()
    previous = signal.getsignal(signal.SIGTERM)

    def on_term(number: int, frame: FrameType | None) -> None:
        if received.is_set():
            signal.signal(number, previous)
            signal.raise_signal(number)
            return
        received.set()
        log.warning("SIGTERM: clips that have begun are finished; a second one ends at once")

    with handling((signal.SIGTERM,), on_term):
        yield lambda: not received.is_set()
    if received.is_set():
        signal.raise_signal(signal.SIGTERM)
