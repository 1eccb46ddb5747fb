"""The client of a decoding process: starts it, sends requests, kills it with its group."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from features.canonical_json import JsonObject
from features.errors import MediaCode, MediaError, VaflowError, one_line
from features.media.limits import DecodeLimits
from features.media.worker.protocol import N_SLOTS, SharedBuffer, receive, receive_record, send
from features.media.worker.requests import RECORDS, slot_bytes
from features.system.files import errors_name

SERVER = "features.media.worker.server"
POLL_S = 0.2
BYTES_PER_FRAME = 8  # of an array in a record: int64 or float64
# a child ends with the thread that started it (rlimits.die_with_parent); this thread does not end
_STARTER = ThreadPoolExecutor(1, "starter")
MEDIA_CODE: TypeAdapter[MediaCode] = TypeAdapter(MediaCode)
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Stopped(Exception):
    """The process was stopped, by `DecoderClient.stop`, during a request."""


class DecoderClient:
    """Sends one request at a time to a decoding process, for one thread."""

    def __init__(self, limits: DecodeLimits, server: str = SERVER) -> None:
        """`server` is the module that the process runs."""
        self.limits = limits
        self.server = server
        self.waited_s = 0.0
        """How long the caller has waited for the process, in total."""
        self._process: subprocess.Popen | None = None
        self._connection: Connection | None = None
        self._buffer: SharedBuffer | None = None
        self._is_ready = False
        self._stopped = False
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The process's id; None if it is not running."""
        return self._process.pid if self._process else None

    def request(
        self, name: str, *arguments: Any, **arrays: np.ndarray
    ) -> Generator[Any, None, None]:
        """Have the process serve a request of `features.media.worker.requests`.

        Yields what the request yields. Arrays are valid until the next item. The process is killed
        if the caller closes the generator early.

        Raises `MediaError` if the media cannot be decoded within the limits.
        """
        about = str(arguments[0][0] if isinstance(arguments[0], list) else arguments[0])
        connection, buffer = self._ready_connection()
        is_over = False
        waited_s = 0.0
        try:
            send(connection, {"request": name, "arguments": arguments}, arrays)
            while not is_over:
                began = time.monotonic()
                message = self._receive(connection, about, waited_s)
                took_s = time.monotonic() - began
                waited_s += took_s
                self.waited_s += took_s
                match message["kind"]:
                    case "piece":
                        yield buffer.get(message["slot"], message["arrays"])
                        send(connection, {"slot": message["slot"]})
                    case "record":
                        max_bytes = BYTES_PER_FRAME * self.limits.frames
                        record = RECORDS[message["type"]]
                        yield receive_record(connection, message, record, max_bytes)
                    case "end":
                        is_over = True
                    case _:
                        code = MEDIA_CODE.validate_python(message["code"])
                        is_over = code != "limit-memory"  # its memory is in an unknown state
                        raise MediaError(str(message["message"]), code)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise self._death(about) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MediaError(
                f"{about}: its decoding process sent an invalid answer ({one_line(error)})",
                "crashed",
            ) from None
        finally:
            if not is_over:
                self._kill()

    def _receive(self, connection: Connection, about: str, waited_s: float) -> JsonObject:
        """The next message; `MediaError` if it takes longer than `limits.wall_s`."""
        deadline = time.monotonic() + self.limits.wall_s - waited_s
        while not connection.poll(POLL_S):
            if time.monotonic() > deadline:
                wall_s = self.limits.wall_s
                raise MediaError(
                    f"{about}: decoding it takes longer than limits.wall_s = {wall_s:g}; if the "
                    "file is sound, give a higher limits.wall_s=...",
                    "limit-wall",
                )
        return receive(connection)

    def _death(self, about: str) -> Exception:
        number = -self._kill()
        if self._stopped:
            return Stopped()
        if number == signal.SIGXCPU:
            cpu_s = self.limits.cpu_s
            return MediaError(
                f"{about}: decoding it takes more processor time than limits.cpu_s = {cpu_s}; if "
                "the file is sound, give a higher limits.cpu_s=...",
                "limit-cpu",
            )
        how = f"by {signal.Signals(number).name}" if number > 0 else f"with status {-number}"
        hint = "; was there too little memory?" if number == signal.SIGKILL else ""
        return MediaError(f"{about}: its decoding process was ended {how}{hint}", "crashed")

    def _ready_connection(self) -> tuple[Connection, SharedBuffer]:
        if self._connection is None:
            self.start()
        assert self._connection is not None
        assert self._buffer is not None
        if not self._is_ready:
            began = time.monotonic()
            try:
                receive(self._connection)
            except (EOFError, ConnectionResetError):
                status = self._kill()
                if self._stopped:
                    raise Stopped from None
                raise VaflowError(
                    f"a process that decodes media cannot start (status {status}); its own error "
                    "is above"
                ) from None
            self._is_ready = True
            self.waited_s += time.monotonic() - began
        return self._connection, self._buffer

    def start(self) -> None:
        """Start the process; does not wait until it is ready."""
        ours, theirs = socket.socketpair()
        fd = os.memfd_create("vaflow-frames")
        try:
            # a limit on the size of files applies to it, too
            with errors_name(Path("the memory shared with the decoding process")):
                os.ftruncate(fd, N_SLOTS * slot_bytes(self.limits))
            buffer = SharedBuffer(fd, slot_bytes(self.limits))
            handles = (theirs.fileno(), fd)
            search_path = os.pathsep.join(path or os.getcwd() for path in sys.path)
            with self._lock:  # `stop` in another thread sees the process, or this sees `_stopped`
                if self._stopped:
                    raise Stopped
                self._process = _STARTER.submit(
                    subprocess.Popen,
                    [sys.executable, "-P", "-m", self.server]
                    + [str(number) for number in (os.getpid(), *handles)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=handles,
                    start_new_session=True,  # a process group of its own: Ctrl-C does not reach it
                    env={**os.environ, **ONE_THREAD, "PYTHONPATH": search_path},
                ).result()
            self._connection, self._buffer = Connection(ours.detach()), buffer
        finally:
            ours.close()
            theirs.close()
            os.close(fd)
        limits = self.limits.model_dump(mode="json")
        with suppress(BrokenPipeError, ConnectionResetError):  # the next `receive` reports it
            send(self._connection, limits)

    def _kill(self) -> int:
        """Kill the process with its group; return its status, negative after a signal."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
        self._connection, self._buffer, self._is_ready = None, None, False
        if process is None:
            return 0
        _kill_group(process)
        return process.wait()

    def stop(self) -> None:
        """Kill the process at once, from any thread; a request in progress raises `Stopped`."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _kill_group(self._process)

    def close(self) -> None:
        """Kill the process and wait for its end. Call it from the thread that sends requests."""
        self.stop()
        self._kill()


def _kill_group(process: subprocess.Popen) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
