"""What a live stream is read from: a file, a file that grows, a pipe or a camera."""

import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import av
import av.error
from av.container import InputContainer

from features.errors import InputError, MediaError
from features.media.container import WHITELISTS
from features.media.limits import DecodeLimits
from features.system.files import errors_name

STDIN, STDIN_PATH = "-", Path("/dev/stdin")
POLL_S = 0.05  # between looks at what may have come or ended
PROBE_S = 1.0  # of a stream that FFmpeg reads to learn what is in it; five by default
CAMERA_FORMAT = "v4l2"  # Video4Linux2, as FFmpeg calls it
CAMERA_FORMATS = "video4linux2,v4l2"

IsStopped = Callable[[], bool]
Kind = Literal["file", "growing file", "pipe", "camera"]


@dataclass(frozen=True, slots=True)
class LiveSource:
    """A source that exists."""

    kind: Kind
    path: Path
    idle_s: float = 0.0
    """A file that has not grown for so long has ended."""

    @property
    def is_paced(self) -> bool:
        """Whether it gives frames when they are recorded, and does not wait for its reader."""
        return self.kind != "file"


def find_source(text: str, follow_s: float | None) -> LiveSource:
    """Return the source of this name; "-" is standard input.

    With `follow_s`, a file is followed until it has not grown for so many seconds. Raises
    `InputError` if there is no such source, or one that cannot be followed.
    """
    path = STDIN_PATH if text == STDIN else Path(text)
    if "://" in text:
        raise InputError(
            f"live = {text}: addresses are not opened; pipe the stream, for example with "
            f"`ffmpeg -i {text} -c copy -f mpegts - | vaflow predict RUN --live -`"
        )
    try:
        mode = os.fstat(0).st_mode if text == STDIN else path.stat().st_mode
    except OSError as error:
        raise InputError(
            f"live = {text} cannot be read ({error.strerror}); give a file, a camera such as "
            "/dev/video0, or - for standard input"
        ) from None
    kind = _kind(mode)
    if kind is None or (kind == "camera" and text == STDIN):
        what = "a terminal" if text == STDIN else "a folder" if path.is_dir() else "no such thing"
        raise InputError(
            f"live = {text} is {what}; give a file, a camera such as /dev/video0, or - for "
            "Matroska or MPEG-TS that is piped to standard input"
        )
    if follow_s is None:
        return LiveSource(kind, path)
    if kind != "file" or text == STDIN:
        raise InputError(f"live = {text} is a {kind} and cannot be followed; leave --follow out")
    return LiveSource("growing file", path, follow_s)


def _kind(mode: int) -> Kind | None:
    """Return what a file of this mode is; None if nothing streams from it."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        return "pipe"
    return "camera" if stat.S_ISCHR(mode) else None


@contextmanager
def open_live(
    source: LiveSource, limits: DecodeLimits, is_stopped: IsStopped
) -> Iterator[InputContainer]:
    """Open a source; within, every error of FFmpeg is a `MediaError` with its message."""
    options = {**WHITELISTS, "max_pixels": str(limits.pixels)}
    arguments: dict[str, Any] = {"metadata_errors": "replace"}
    if source.kind == "camera":
        arguments["format"] = CAMERA_FORMAT
        options["format_whitelist"] = CAMERA_FORMATS
    elif source.is_paced:
        options["analyzeduration"] = str(round(PROBE_S * av.time_base))
    with ExitStack() as stack, errors_name(source.path):
        opened: Any = str(source.path)
        if source.kind in ("pipe", "growing file"):
            at = 0 if source.path == STDIN_PATH else source.path  # a socket cannot be opened again
            file = stack.enter_context(open(at, "rb", buffering=0, closefd=at != 0))
            if source.kind == "pipe":
                opened = _Pipe(file, is_stopped)
            else:
                opened = _Growing(file, source.idle_s, is_stopped)
        try:
            yield stack.enter_context(av.open(opened, options=options, **arguments))
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise  # the process is out of memory: not an error of the stream
            raise MediaError(
                f"{source.path} cannot be decoded ({error.strerror}); a stream is Matroska or "
                "MPEG-TS: an MP4 is complete only when its recording ends",
                "not-media",
            ) from None


class _Pipe:
    """A pipe as PyAV reads one: without `seek`; reading ends when it is stopped."""

    def __init__(self, file: Any, is_stopped: IsStopped) -> None:
        self._file, self._is_stopped = file, is_stopped

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes as soon as there are some; none at the end."""
        while not self._is_stopped():
            if select.select([self._file], [], [], POLL_S)[0]:
                return self._file.read(n_bytes)
        return b""


class _Growing:
    """A file that is followed: it ends when it has not grown for `idle_s`, or is stopped."""

    def __init__(self, file: Any, idle_s: float, is_stopped: IsStopped) -> None:
        self._file, self._idle_s, self._is_stopped = file, idle_s, is_stopped
        self._has_ended = False

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes as soon as there are some; none at the end."""
        began_s = time.monotonic()
        while not (self._has_ended or self._is_stopped()):
            if data := self._file.read(n_bytes):
                return data
            time.sleep(POLL_S)
            self._has_ended = time.monotonic() - began_s >= self._idle_s
        return b""
