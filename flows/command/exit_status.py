"""The exit statuses of the command."""

import signal

ENDED = 128  # what a shell adds to the number of a signal

INTERRUPTED = ENDED + signal.SIGINT
