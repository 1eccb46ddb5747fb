"""A decoding process that also serves requests which crash, hang or exceed a limit.

Decoder(limits, server=HOSTILE_SERVER).client.request("spin", path)
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from features.media.worker.protocol import MAX_JSON_BYTES
from features.media.worker.requests import REQUESTS
from features.media.worker.server import main
from features.timeline import FrameTimes

HOSTILE_SERVER = "tests.helpers.hostile_server"


def exhaust_memory(path: str, **_) -> Iterator[list[np.ndarray]]:
    arrays = []
    while True:
        arrays.append(np.ones(10_000_000))
        yield from ()


def spin(path: str, **_) -> Iterator[list[np.ndarray]]:
    while True:
        yield from ()


def crash(path: str, **_) -> Iterator[list[np.ndarray]]:
    os.kill(os.getpid(), signal.SIGSEGV)
    yield from ()


def divide_by_zero(path: str, **_) -> Iterator[list[np.ndarray]]:
    raise ZeroDivisionError("a rate of 0")
    yield from ()


def fail_at_length(path: str, **_) -> Iterator[list[np.ndarray]]:
    """Fail with a message that is longer than a message may be."""
    raise ValueError("x" * (MAX_JSON_BYTES + 1))
    yield from ()


def write(path: str, **_) -> Iterator[list[np.ndarray]]:
    """Write to the file that should only be read."""
    with Path(path).open("ab") as file:
        file.write(b"x")
    yield from ()


def hang(path: str, **_) -> Iterator[list[np.ndarray]]:
    """Wait without end, with a child process."""
    os.fork()
    signal.pause()
    yield from ()


def send_list(path: str, **_) -> Iterator[list[np.ndarray]]:
    """Send JSON that is not an object."""
    Connection(os.dup(int(sys.argv[2]))).send_bytes(b"[1]")
    signal.pause()
    yield from ()


def send_slowly(path: str, **_) -> Iterator[list[np.ndarray]]:
    """Send six pieces, each after 0.3 s."""
    for k in range(6):
        time.sleep(0.3)
        yield [np.full(4, k, np.uint8)]


def use_cpu(path: str, **_) -> Iterator[FrameTimes]:
    """Use 0.7 s of processor time."""
    until_s = time.process_time() + 0.7
    while time.process_time() < until_s:
        pass
    yield FrameTimes(np.zeros(1), np.zeros(1, np.int64))


HOSTILE = {
    request.__name__: request
    for request in (
        exhaust_memory,
        spin,
        crash,
        divide_by_zero,
        fail_at_length,
        write,
        hang,
        send_list,
        send_slowly,
        use_cpu,
    )
}

if __name__ == "__main__":
    main({**REQUESTS, **HOSTILE})
