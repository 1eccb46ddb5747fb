"""The process of the command `vaflow`, also `python -m flows`: Ctrl-C ends it in one way."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # what a shell makes of Ctrl-C
SAID = "interrupted; what is done is kept, the rest resumes"


def run() -> int:
    """Run the command line; the exit status, 130 after a Ctrl-C at whatever moment."""
    interrupted = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if _is_importing(frame):
            sys.stderr.write(f"{SAID}\n")
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        interrupted = True
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGINT, on_interrupt)
        from flows.cli import main

        status = main()
    except BaseException:
        if not interrupted:  # a library may make another error of a Ctrl-C
            raise
        status = 1
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))  # no more than the end is left
    sys.stdout.flush()
    if interrupted and status not in (0, INTERRUPTED):
        sys.stderr.write(f"{SAID}\n")
        return INTERRUPTED
    return status


def _is_importing(frame: FrameType | None) -> bool:
    """Whether a module is being loaded: torch aborts where that raises (test_bad_input.py)."""
    while frame:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


if __name__ == "__main__":
    sys.exit(run())
