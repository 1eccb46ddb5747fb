"""The exit statuses of the command that are not those of an error class."""

import signal

SIGNALLED = 128  # a shell adds the number of the signal to it
INTERRUPTED = SIGNALLED + signal.SIGINT
BROKEN_PIPE = SIGNALLED + signal.SIGPIPE
STILL_RUNNING = 124  # watching a run timed out; as `timeout` returns
