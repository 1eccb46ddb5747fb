"""What a command logs, as text for a person or as JSON lines for a program."""

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
    """One JSON object per record: time, level, logger, message, run_id, what came as `extra`.

    A traceback is the field `traceback`. `run_id` is the id of the flow's run in a process that
    Prefect started, else one that is new with each formatter.
    """

    def __init__(self, *_: object) -> None:  # what a config of `logging` calls it with
        super().__init__()
        self.run_id = os.environ.get(FLOW_RUN_ID) or str(uuid.uuid4())

    def format(self, record: logging.LogRecord) -> str:
        """The line, in ASCII and without the newline."""
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
    """Send what is logged to stderr; in JSON also warnings, and an error that nobody caught."""
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
    """The value as JSON has it; what JSON has not, as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)
