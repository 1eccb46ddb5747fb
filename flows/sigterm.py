"""SIGTERM while clips are extracted: what is in hand is finished, then the process ends."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)


@contextmanager
def stop_between_clips() -> Iterator[Callable[[], bool]]:
    """Within, one asks whether to begin another clip: not after SIGTERM.

    Afterwards the signal goes to whoever would have had it; a second one does at once. In a thread
    of its own nothing is caught, for Python gives signals to the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: True
        return
    came = threading.Event()
    before = signal.getsignal(signal.SIGTERM)

    def on_term(number: int, frame: FrameType | None) -> None:
        if came.is_set():
            signal.signal(number, before)
            signal.raise_signal(number)
            return
        came.set()
        log.warning("told to end: what is begun is finished first (told again: at once)")

    signal.signal(signal.SIGTERM, on_term)
    try:
        yield lambda: not came.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
    if came.is_set():
        signal.raise_signal(signal.SIGTERM)
