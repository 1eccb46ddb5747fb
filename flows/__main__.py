"""The process of the command `vaflow`, also `python -m flows`."""

import os
import signal
import sys
from types import FrameType

from flows.terminal import SIGNALLED, close_standard_streams, open_standard_streams

ENDED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def run() -> int:
    """Run the command line; returns the exit status, 130 after Ctrl-C and 143 after SIGTERM."""
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if _is_importing(frame):
            sys.stderr.write(f"{ended_by(number)}\n")
            sys.stderr.flush()
            os._exit(SIGNALLED + number)
        raise KeyboardInterrupt

    open_standard_streams()
    try:
        for number in ENDED:
            signal.signal(number, on_signal)
        from flows.command.main import main

        status = main()
    except SystemExit as end:  # argparse: help, or wrong arguments
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        if not received:  # a library may turn Ctrl-C into another error
            raise
        status = 1
    for number in ENDED:  # from here on a signal ends the process
        signal.signal(number, lambda number, _: os._exit(SIGNALLED + number))
    if received and status != 0:
        from flows.logs import print_message

        print_message(ended_by(received[0]))
        status = SIGNALLED + received[0]
    return close_standard_streams(status)


def ended_by(number: int) -> str:
    """The message at the end; a live stream does not resume."""
    ended = ENDED[signal.Signals(number)]
    if "--live" in sys.argv:
        return ended
    return f"{ended}; what is done is kept, the rest resumes"


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: torch aborts if that raises (test_bad_input.py)."""
    while frame:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


if __name__ == "__main__":
    sys.exit(run())
