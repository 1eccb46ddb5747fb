"""Signals that are handled in another way for some time, or wait until a section has ended."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


@contextmanager
def handling(numbers: Iterable[int], handler: Handler) -> Iterator[None]:
    """Context manager in which a handler receives these signals.

    Does nothing in other threads than the main one, where no signal arrives.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def deferring_signals() -> Iterator[None]:
    """Context manager that delivers SIGINT and SIGTERM at its end; as `handling`."""
    arrived: list[int] = []
    try:
        with handling((signal.SIGINT, signal.SIGTERM), lambda number, _: arrived.append(number)):
            yield
    finally:
        if arrived:
            signal.raise_signal(arrived[0])


@contextmanager
def waiting_signals() -> Iterator[Callable[[], bool]]:
    """Context manager that delivers SIGINT and SIGTERM at its end, and a second one at once.

    Yields a function that returns whether one has arrived. A signal that is ignored stays ignored;
    otherwise as `handling`.
    """
    before = {int(each): signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    taken = [number for number, each in before.items() if each not in (signal.SIG_IGN, None)]
    arrived: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        arrived.append(number)
        if len(arrived) > 1:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    try:
        with handling(taken, on_signal):
            yield lambda: bool(arrived)
    finally:
        if len(arrived) == 1:
            signal.raise_signal(arrived[0])
