"""Standard output and standard error of the command, and its exit status."""

import errno
import os
import signal
import sys
from contextlib import suppress
from typing import IO

from features.printable import printable

SIGNALLED = 128  # a shell adds the number of the signal to it
INTERRUPTED = SIGNALLED + signal.SIGINT
BROKEN_PIPE = SIGNALLED + signal.SIGPIPE
STILL_RUNNING = 124  # watching a run timed out; as `timeout` returns


def open_standard_streams() -> None:
    """Make the standard streams usable however the command was started.

    A closed one (`2>&-`) is opened on the null device, so that no other file takes its number.
    Characters that the terminal's encoding lacks are written as escapes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null != number:
                os.close(null)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


def print_lines(*lines: str, stderr: bool = False) -> None:
    """Print each text on one line; names from outside are escaped in it."""
    text = "\n".join(printable(line, layout="") for line in lines)
    print(text, file=sys.stderr if stderr else sys.stdout)


def close_standard_streams(status: int) -> int:
    """Flush the standard streams before the process ends; returns its exit status.

    That is the given one unless output is lost: 141 if its reader has closed the pipe, else 1.
    Python itself would print a traceback and exit with 120 (test_standard_streams.py).
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        if error.errno == errno.EPIPE:
            status = BROKEN_PIPE
        else:
            print(f"vaflow: standard output: {error.strerror}", file=sys.stderr)
            status = status or 1
    try:
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)
    return status


def _discard(stream: IO[str]) -> None:
    """Send what is still in the buffer of a stream, and all that follows, to the null device."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()
