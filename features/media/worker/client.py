"""The near end of a process that decodes: starts it, hears it, kills it with its group."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar, get_args

import numpy as np

from features.canonical_json import JsonObject
from features.errors import MediaCode, MediaError, VaflowError
from features.media.limits import DecodeLimits
from features.media.worker.protocol import N_SLOTS, SharedBuffer, receive, receive_record, send
from features.media.worker.requests import slot_bytes

POLL_S = 0.2
_STARTER = ThreadPoolExecutor(1, "starter")  # a process ends with the thread that started it, and
# this one lives as long as ours
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

RecordT = TypeVar("RecordT")


class Stopped(Exception):
    """The process was told to stop while something was read."""


class DecoderClient:
    """Answers one order after another, for one thread.

    Every method raises `MediaError` where the media cannot be read within the limits.
    """

    def __init__(self, limits: DecodeLimits, n_threads: int) -> None:
        self.limits = limits
        self.n_threads = n_threads
        self.waited_s = 0.0
        """How long its reader waited for it, all in all."""
        self._process: subprocess.Popen | None = None
        self._line: tuple[Connection, SharedBuffer] | None = None
        self._is_ready = False
        self._stopped = False
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Start the process, without waiting until it is ready."""
        self._line = self._start()

    def pieces(
        self, function: Callable, record: type[RecordT] | None, *arguments: Any
    ) -> Generator[list[np.ndarray], None, Any]:
        """Have the process serve a request: yield what its function yields, return what it returns.

        The functions are those of `features.media.worker.requests`.

        Arrays that it yields are valid until the next are asked for.
        """
        about = str(arguments[0] if isinstance(arguments[0], str) else arguments[0][0])
        connection, slab = self._running()
        is_over = False
        waited_s = 0.0
        try:
            name = f"{function.__module__}:{function.__name__}"
            send(connection, {"function": name, "arguments": arguments})
            while True:
                began = time.monotonic()
                message = self._hear(connection, about, waited_s)
                took_s = time.monotonic() - began
                waited_s += took_s
                self.waited_s += took_s
                match message["kind"]:
                    case "piece":
                        yield slab.get(message["slot"], message["arrays"])
                        send(connection, {"slot": message["slot"]})
                    case "end" if record is not None:
                        most = 8 * self.limits.frames
                        result = receive_record(connection, message, record, most)
                        is_over = True
                        return result
                    case "end":
                        is_over = True
                        return message["value"]
                    case _:
                        code = _known(message["code"])
                        is_over = code != "limit-memory"  # what is left of its memory is unknown
                        raise MediaError(str(message["words"]), code)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise self._died(about) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MediaError(
                f"{about}: the process that decoded it answered what makes no sense ({error})",
                "crashed",
            ) from None
        finally:
            if not is_over:  # given up, or in an unknown state
                self._kill()

    def _hear(self, connection: Connection, about: str, waited_s: float) -> JsonObject:
        """The next message; `MediaError` where it is waited for beyond the limit."""
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

    def _died(self, about: str) -> Exception:
        """What it means that the process ended while it was waited for."""
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
        return MediaError(f"{about}: the process that decoded it was ended {how}{hint}", "crashed")

    def _running(self) -> tuple[Connection, SharedBuffer]:
        """The line to the process and the memory shared with it, started where there is none."""
        if self._line is None:
            self.begin()
        assert self._line is not None
        if self._is_ready:
            return self._line
        began = time.monotonic()
        try:
            receive(self._line[0])  # that it is ready
        except (EOFError, ConnectionResetError):
            status = self._kill()
            if self._stopped:
                raise Stopped from None
            raise VaflowError(
                f"a process that decodes media cannot start (status {status}); what it said "
                "stands above"
            ) from None
        self._is_ready = True
        self.waited_s += time.monotonic() - began
        return self._line

    def _start(self) -> tuple[Connection, SharedBuffer]:
        ours, theirs = socket.socketpair()
        fd = os.memfd_create("vaflow-slab")
        try:
            _make_room(fd, N_SLOTS * slot_bytes(self.limits))
            slab = SharedBuffer(fd, slot_bytes(self.limits))
            handles = (theirs.fileno(), fd)
            with self._lock:  # `stop` must find what was started
                if self._stopped:
                    raise Stopped
                self._process = _STARTER.submit(
                    subprocess.Popen,
                    [sys.executable, "-P", "-m", "features.media.worker.server"]
                    + [str(number) for number in (os.getpid(), *handles)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=handles,
                    start_new_session=True,  # a group of its own: Ctrl-C is for us alone
                    env={**os.environ, **ONE_THREAD, "PYTHONPATH": _search_path()},
                ).result()
            connection = Connection(ours.detach())
        finally:
            ours.close()
            theirs.close()
            os.close(fd)
        limits = self.limits.model_dump(mode="json")
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended: who hears it says so
            send(connection, {"limits": limits, "n_threads": self.n_threads})
        return connection, slab

    def _kill(self) -> int:
        """End the process with its group; its status, which is negative after a signal."""
        process, self._process = self._process, None
        line, self._line, self._is_ready = self._line, None, False
        if line is not None:
            line[0].close()
        if process is None:
            return 0
        _kill_group(process)
        return process.wait()

    def stop(self) -> None:
        """End the process at once; whoever reads through it meets `Stopped`. From any thread."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _kill_group(self._process)

    def close(self) -> None:
        """End the process, and wait for its end. From the thread that reads."""
        self.stop()
        self._kill()


def _make_room(fd: int, n_bytes: int) -> None:
    """Let the memory be so large; it takes what is written to it. An `OSError` says which it is."""
    try:
        os.ftruncate(fd, n_bytes)
    except OSError as error:  # a limit on the size of files holds for it, too
        what = "the memory shared with a process that decodes"
        raise OSError(error.errno, error.strerror, what) from error


def _kill_group(process: subprocess.Popen) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _search_path() -> str:
    """Where this process finds modules, for another to find the same."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


def _known(code: object) -> MediaCode:
    if code not in get_args(MediaCode):
        raise ValueError(f"there is no code {code!r}")
    return code  # pyright: ignore[reportReturnType]
