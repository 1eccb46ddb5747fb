"""The log of a command, as text or as JSON lines."""

import json
import logging
import math
import os
import sys
import threading
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

LogFormat = Literal["text", "json"]

OURS = ("features", "models", "flows")
STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}
FLOW_RUN_ID = "PREFECT__FLOW_RUN_ID"  # Prefect sets it in the process of a flow's run

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """Formats a record as a JSON object: time, level, logger, message, run_id and its `extra`.

    A traceback is the field `traceback`. `run_id` is the id of the flow run in a process that
    Prefect started, else a new one for each formatter.
    """

    def __init__(self, *_: object) -> None:  # a config of `logging` passes arguments
        super().__init__()
        self.run_id = os.environ.get(FLOW_RUN_ID) or str(uuid.uuid4())

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of ASCII, without the newline."""
        extra = {k: _plain(v) for k, v in vars(record).items() if k not in STANDARD}
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "run_id": self.run_id,
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return json.dumps({**fields, **{k: v for k, v in extra.items() if k not in fields}})


def set_up(form: LogFormat) -> None:
    """Send the log to stderr; in JSON also warnings and uncaught exceptions."""
    if form == "text":
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _on_uncaught
    threading.excepthook = lambda args: _on_uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


def is_json() -> bool:
    """Whether this process logs JSON lines."""
    return any(isinstance(each.formatter, JsonLines) for each in logging.getLogger().handlers)


def print_message(message: str) -> None:
    """Write a message to stderr, in the format of the log; nothing if nobody reads stderr."""
    if is_json():
        log.error("%s", message.strip().removeprefix("vaflow: "))
        return
    with suppress(BrokenPipeError):
        print(message, file=sys.stderr)


def _on_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    log.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, traceback))


def _plain(value: object) -> object:
    """The value if JSON can represent it, else its text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)
