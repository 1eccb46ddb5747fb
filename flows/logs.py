"""The log of a command, as text or as JSON lines."""

import copy
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
from typing import Any, Literal

from features.printable import printable

LogFormat = Literal["text", "json"]

OURS = ("features", "models", "flows")
STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime"}
PREFECT_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
TEXT = "%(levelname)s: %(message)s"
FLOW_RUN_ID = "PREFECT__FLOW_RUN_ID"  # Prefect sets it in the process of a flow's run

log = logging.getLogger(__name__)


class TextLines(logging.Formatter):
    """Formats a record as `LEVEL: message`; names from outside are escaped in it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text, without the newline."""
        return super().format(_with_printable_message(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802, the name is logging's
        """The printable traceback."""
        return printable(super().formatException(ei))


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
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else TextLines(TEXT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=form == "json")
    if form == "text":
        return
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
        print(printable(message), file=sys.stderr)


def _on_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    log.critical("%s: %s", kind.__name__, error, exc_info=(kind, error, traceback))


def run_logger() -> Any:
    """The logger of the current Prefect run, whose messages are printable.

    Prefect sends them to its server in UTF-8, which cannot represent a lone surrogate. Raises
    `prefect.exceptions.MissingContextError` outside a run.
    """
    from prefect import get_run_logger  # slow to import, and no command in this process needs it

    for name in PREFECT_LOGGERS:  # Prefect itself logs to them, too
        logging.getLogger(name).addFilter(_make_printable)
    return get_run_logger()


def _make_printable(record: logging.LogRecord) -> bool:
    """Escape names from outside in the message of a record, which passes this filter."""
    record.msg, record.args = _with_printable_message(record).msg, ()
    return True


def _with_printable_message(record: logging.LogRecord) -> logging.LogRecord:
    """Return a copy whose message is printable; each name among its arguments is on one line."""
    args: Any = record.args
    if isinstance(args, tuple):
        args = tuple(_on_one_line(value) for value in args)
    shown = copy.copy(record)
    shown.args = args
    shown.msg, shown.args = printable(shown.getMessage()), ()
    return shown


def _on_one_line(value: object) -> object:
    """A path or a line of text with escapes; other values keep their type for the format."""
    return printable(str(value), layout="") if isinstance(value, str | os.PathLike) else value


def _plain(value: object) -> object:
    """The value if JSON can represent it, else its text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)
