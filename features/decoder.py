"""Untrusted media, decoded in a process apart, within limits.

A file that makes that process crash, hang, or take too much costs its own clip: the process is
killed with its group, and another takes over. The process cannot write a file, and ends when the
one that started it ends. It is no sandbox: it may read what its user may read.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np

from features import reading
from features.errors import MediaCode, MediaError, VaflowError
from features.hearing import Hearing
from features.limits import DecodeLimits
from features.media import Clock, Probe
from features.reading import Picture, Watched, slot_bytes
from features.records import JsonObject
from features.sampling import EVERY_FRAME, Sampling
from features.sound import Block
from features.wire import N_SLOTS, Slab, hear, hear_record, tell

POLL_S = 0.2
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

RecordT = TypeVar("RecordT")


class Stopped(Exception):
    """The decoder was told to stop while something was read."""


class Decoder:
    """Reads media through a process of its own; one thing at a time, from one thread.

    Every method raises `MediaError` where the media cannot be read within the limits. Arrays that
    a generator yields are valid until the next are asked for.
    """

    def __init__(self, limits: DecodeLimits, n_threads: int = 1) -> None:
        self.limits = limits
        self.n_threads = n_threads
        self._process: subprocess.Popen | None = None
        self._line: tuple[Connection, Slab] | None = None
        self.waited_s = 0.0
        """How long its reader waited for the process, all in all."""
        self._keep_hz: int | None = None
        self._heard: Hearing | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def keep_sound(self, rate_hz: int | None) -> None:
        """Have the sound of the videos to come read along with them, for `sound` to give."""
        self._keep_hz = rate_hz
        self._forget()

    def pictures(
        self, video: Path, fps: float | None, sampling: Sampling = EVERY_FRAME
    ) -> Generator[list[Picture], None, Clock]:
        """Yield the frames that are to be looked at; return the clock, with the row of each."""
        chosen = sampling.model_dump(mode="json")
        return (yield from self._watched(reading.video_pictures, video, fps, chosen))

    def crops(self, paths: Sequence[Path]) -> Generator[list[Picture], None, None]:
        """Yield the pictures of these files, in order."""
        yield from self._pieces(reading.crop_pictures, None, [str(path) for path in paths])

    def clock(self, video: Path, fps: float | None) -> Clock:
        """When each frame of a video is shown; decodes all of it, which is what proves it whole."""
        return self._end_of(self._watched(reading.video_clock, video, fps))

    def probe(self, video: Path) -> Probe:
        """What the container of a video lists."""
        return self._whole(reading.video_probe, Probe, str(video))

    def sound(self, path: Path, rate_hz: int) -> Generator[Block, None, float | None]:
        """Yield the first sound track, mono at `rate_hz`; return the time of its first sample.

        None where there is no sound.
        """
        heard = self._heard
        if heard and heard.is_whole and (heard.video, heard.rate_hz) == (path, rate_hz):
            yield from heard.blocks()
            return heard.start_s
        arguments = (str(path), rate_hz)
        with closing(self._pieces(reading.sound_samples, None, *arguments)) as pieces:
            while True:
                try:
                    yield next(pieces)[0]
                except StopIteration as end:
                    return end.value

    def _watched(
        self, function: Callable, video: Path, fps: float | None, *more: Any
    ) -> Generator[list[Picture], None, Clock]:
        """The pictures that the process yields; sound between them is put aside."""
        self._forget()
        self._heard = heard = Hearing(video, self._keep_hz) if self._keep_hz else None
        pieces = self._pieces(function, Watched, str(video), fps, *more, self._keep_hz)
        with closing(pieces):
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as end:
                    found: Watched = end.value
                    break
                if piece[0].dtype == np.uint8:
                    yield piece
                elif heard:
                    heard.add(piece[0])
        if heard:
            heard.end(is_whole=found.heard, start_s=found.start_s)
        return found.clock()

    def _forget(self) -> None:
        """Let go of sound that was read along."""
        if self._heard:
            self._heard.close()
            self._heard = None

    def _whole(self, function: Callable, record: type[RecordT], *arguments: Any) -> RecordT:
        return self._end_of(self._pieces(function, record, *arguments))

    @staticmethod
    def _end_of(pieces: Generator[Any, None, RecordT]) -> RecordT:
        """What a generator returns that yields nothing."""
        with closing(pieces):
            try:
                next(pieces)
            except StopIteration as end:
                return end.value
        raise AssertionError("it yields; it should return alone")

    def _pieces(
        self, function: Callable, record: type[RecordT] | None, *arguments: Any
    ) -> Generator[list[np.ndarray], None, Any]:
        """Have a function of `features.reading` done by the process: what it yields and returns."""
        about = str(arguments[0] if isinstance(arguments[0], str) else arguments[0][0])
        connection, slab = self._running()
        is_over = False
        waited_s = 0.0
        try:
            name = f"{function.__module__}:{function.__name__}"
            tell(connection, {"function": name, "arguments": arguments})
            while True:
                began = time.monotonic()
                message = self._hear(connection, about, waited_s)
                took_s = time.monotonic() - began
                waited_s += took_s
                self.waited_s += took_s
                match message["kind"]:
                    case "piece":
                        yield slab.get(message["slot"], message["arrays"])
                        tell(connection, {"slot": message["slot"]})
                    case "end" if record is not None:
                        most = 8 * self.limits.frames
                        result = hear_record(connection, message, record, most)
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
        return hear(connection)

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

    def _running(self) -> tuple[Connection, Slab]:
        """The line to the process and the memory shared with it, started where there is none."""
        if self._line is None:
            began = time.monotonic()
            self._line = self._start()
            try:
                hear(self._line[0])  # that it is ready
                self.waited_s += time.monotonic() - began
            except (EOFError, ConnectionResetError):
                status = self._kill()
                if self._stopped:
                    raise Stopped from None
                raise VaflowError(
                    f"a process that decodes media cannot start (status {status}); what it said "
                    "stands above"
                ) from None
        return self._line

    def _start(self) -> tuple[Connection, Slab]:
        ours, theirs = socket.socketpair()
        fd = os.memfd_create("vaflow-slab")
        try:
            _make_room(fd, N_SLOTS * slot_bytes(self.limits))
            slab = Slab(fd, slot_bytes(self.limits))
            handles = (theirs.fileno(), fd)
            with self._lock:  # `stop` must find what was started
                if self._stopped:
                    raise Stopped
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "features.decoder_process"]
                    + [str(number) for number in (os.getpid(), *handles)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=handles,
                    start_new_session=True,  # a group of its own: Ctrl-C is for us alone
                    env={**os.environ, **ONE_THREAD, "PYTHONPATH": _search_path()},
                )
            connection = Connection(ours.detach())
        finally:
            ours.close()
            theirs.close()
            os.close(fd)
        limits = self.limits.model_dump(mode="json")
        tell(connection, {"limits": limits, "n_threads": self.n_threads})
        return connection, slab

    def _kill(self) -> int:
        """End the process with its group; its status, which is negative after a signal."""
        process, self._process = self._process, None
        line, self._line = self._line, None
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
        self._forget()


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
