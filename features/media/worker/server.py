"""The process that decodes: it confines itself, then answers one order after another.

`features.media.worker.client` starts it; `features.media.worker.protocol` has their messages.
"""

import os
import sys
from collections import deque
from collections.abc import Generator
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from features.canonical_json import JsonObject
from features.errors import MediaCode, MediaError
from features.media.limits import DecodeLimits
from features.media.worker.protocol import N_SLOTS, SharedBuffer, receive, send, send_record
from features.media.worker.requests import slot_bytes
from features.media.worker.rlimits import apply_rlimits, die_with_parent, set_cpu_budget


class Server:
    """One end of the line: answers orders until the other end is gone."""

    def __init__(self, connection: Connection, slab_fd: int, settings: JsonObject) -> None:
        self.connection = connection
        self.limits = DecodeLimits.model_validate(settings["limits"])
        self.n_threads: int = settings["n_threads"]
        self.slab = SharedBuffer(slab_fd, slot_bytes(self.limits))
        self.free = deque(range(N_SLOTS))

    def serve(self) -> None:
        """Answer orders; a message that is none gives a slot back."""
        while True:
            message = receive(self.connection)
            if "slot" in message:
                self.free.append(message["slot"])
            else:
                self.answer(message)

    def answer(self, order: JsonObject) -> None:
        """Do what is asked: send its pieces, then its end, or why it cannot be had."""
        set_cpu_budget(self.limits)
        try:
            result: Any = _function(order["function"])(
                *order["arguments"], limits=self.limits, n_threads=self.n_threads
            )
            if isinstance(result, Generator):
                result = self.send_pieces(result)
            send_record(self.connection, "end", result)
        except MediaError as error:
            self.refuse(str(error), error.code)
        except MemoryError:
            mib = self.limits.memory_mib
            self.refuse(
                f"{_first(order)}: it takes more than limits.memory_mib = {mib} to decode; if the "
                "file is sound, give a higher limits.memory_mib=...",
                "limit-memory",
            )
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise  # the other end is gone
        except Exception as error:  # a decoder that trips over what it reads is the file's doing
            words = f"{type(error).__name__}: {error}"
            self.refuse(f"{_first(order)}: the decoder failed over it ({words})", "crashed")

    def send_pieces(self, pieces: Generator) -> object:
        """Send each piece as soon as there is a free slot; what the generator returns."""
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                return end.value
            while not self.free:
                self.free.append(receive(self.connection)["slot"])
            slot = self.free.popleft()
            listed = self.slab.put(slot, piece)
            send(self.connection, {"kind": "piece", "slot": slot, "arrays": listed})

    def refuse(self, words: str, code: MediaCode) -> None:
        """Say why an order cannot be done."""
        send(self.connection, {"kind": "refused", "words": words[:4000], "code": code})


def _function(name: str) -> Any:
    """A function by `module:name`; orders come from the process that started this one."""
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _first(order: JsonObject) -> str:
    """The file that an order is about."""
    first = order["arguments"][0]
    return first if isinstance(first, str) else first[0]


def main() -> None:
    """Serve on the descriptors that are given until their other end closes."""
    parent, socket_fd, slab_fd = (int(text) for text in sys.argv[1:])
    die_with_parent(parent)
    connection = Connection(socket_fd)
    try:
        server = Server(connection, slab_fd, receive(connection))
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # libraries talk to nobody
        apply_rlimits(server.limits)
        send(connection, {"kind": "ready"})
        server.serve()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # nobody asks any more


if __name__ == "__main__":
    main()
