"""Signals that wait until a critical section has ended."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM)  # by which one asks a program to end


@contextmanager
def deferring_signals() -> Iterator[None]:
    """Within, Ctrl-C and SIGTERM wait: what was begun is finished first.

    In other threads none arrives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
