"""The process of the command `vaflow`, also `python -m flows`: it ends in one way when told to."""

import os
import signal
import sys
from types import FrameType

from flows.command.exit_status import ENDED

SAID = {
    signal.SIGINT: "interrupted; what is done is kept, the rest resumes\n",
    signal.SIGTERM: "terminated; what is done is kept, the rest resumes\n",
}


def run() -> int:
    """Run the command line; the exit status, 130 after Ctrl-C and 143 after SIGTERM, whenever."""
    came: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if _is_importing(frame):
            sys.stderr.write(SAID[signal.Signals(number)])
            sys.stderr.flush()
            os._exit(ENDED + number)
        raise KeyboardInterrupt

    try:
        for number in SAID:
            signal.signal(number, on_signal)
        from flows.command.main import main

        status = main()
    except BaseException:
        if not came:  # a library may make another error of a Ctrl-C
            raise
        status = 1
    for number in SAID:  # no more than the end is left
        signal.signal(number, lambda number, _: os._exit(ENDED + number))
    sys.stdout.flush()
    if came and status != 0:
        from flows.logs import print_message

        print_message(SAID[signal.Signals(came[0])].rstrip())
        return ENDED + came[0]
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
