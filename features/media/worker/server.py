"""The decoding process: limits itself, then serves one request after another.

`features.media.worker.client` starts it; `features.media.worker.protocol` has the messages.
"""

import os
import sys
from collections import deque
from collections.abc import Mapping
from multiprocessing.connection import Connection

import numpy as np

from features.canonical_json import JsonObject
from features.errors import MediaCode, MediaError
from features.media.limits import DecodeLimits
from features.media.worker.protocol import (
    N_SLOTS,
    NO_ARRAYS,
    SharedBuffer,
    receive,
    receive_arrays,
    send,
    send_record,
)
from features.media.worker.requests import REQUESTS, Request, slot_bytes
from features.media.worker.rlimits import apply_rlimits, die_with_parent, set_cpu_budget

MAX_MESSAGE = 4000  # characters of an error; a JSON message has at most MAX_JSON_BYTES


class Server:
    """Serves requests until the client's end of the connection is closed."""

    def __init__(
        self,
        connection: Connection,
        buffer_fd: int,
        limits: JsonObject,
        requests: Mapping[str, Request],
    ) -> None:
        self.connection = connection
        self.limits = DecodeLimits.model_validate(limits)
        self.requests = requests
        self.buffer = SharedBuffer(buffer_fd, slot_bytes(self.limits))
        self.free_slots = deque(range(N_SLOTS))

    def serve(self) -> None:
        """Serve requests; a message with a slot says that the client has read it."""
        while True:
            message = receive(self.connection)
            if "slot" in message:
                self.free_slots.append(message["slot"])
            else:
                arrays = receive_arrays(self.connection, message)
                self.handle(message["request"], message["arguments"], arrays)

    def handle(
        self, name: str, arguments: list, arrays: Mapping[str, np.ndarray] = NO_ARRAYS
    ) -> None:
        """Send the pieces and records of a request, then its end, or an error."""
        about = arguments[0] if isinstance(arguments[0], str) else arguments[0][0]
        request = self.requests.get(name)
        if request is None:
            self.reply_error(
                f"there is no request {name!r}; there are {', '.join(self.requests)}", "crashed"
            )
            return
        set_cpu_budget(self.limits)
        try:
            for item in request(*arguments, **arrays, limits=self.limits):
                if isinstance(item, list):
                    self.send_piece(item)
                else:
                    send_record(self.connection, item)
            send(self.connection, {"kind": "end"})
        except MediaError as error:
            self.reply_error(str(error), error.code)
        except MemoryError:
            self.reply_error(
                f"{about}: it takes more than limits.memory_mib = {self.limits.memory_mib} to "
                "decode; if the file is sound, give a higher limits.memory_mib=...",
                "limit-memory",
            )
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise  # the client has ended
        except Exception as error:  # any other failure is one of this file
            reason = f"{type(error).__name__}: {error}"
            self.reply_error(f"{about}: the decoder failed ({reason})", "crashed")

    def send_piece(self, arrays: list[np.ndarray]) -> None:
        """Send arrays as soon as a slot is free."""
        while not self.free_slots:
            self.free_slots.append(receive(self.connection)["slot"])
        slot = self.free_slots.popleft()
        headers = self.buffer.put(slot, arrays)
        send(self.connection, {"kind": "piece", "slot": slot, "arrays": headers})

    def reply_error(self, message: str, code: MediaCode) -> None:
        """End a request with an error."""
        send(self.connection, {"kind": "error", "message": message[:MAX_MESSAGE], "code": code})


def main(requests: Mapping[str, Request] = REQUESTS) -> None:
    """Serve on the inherited descriptors in `sys.argv`: parent's id, socket, shared memory."""
    parent, socket_fd, buffer_fd = (int(text) for text in sys.argv[1:])
    die_with_parent(parent)
    connection = Connection(socket_fd)
    try:
        server = Server(connection, buffer_fd, receive(connection), requests)
        # FFmpeg writes to standard error; what matters arrives as an exception
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        apply_rlimits(server.limits)
        send(connection, {"kind": "ready"})
        server.serve()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the client has ended


if __name__ == "__main__":
    main()
