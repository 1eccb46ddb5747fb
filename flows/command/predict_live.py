"""The command `predict --live`: JSON lines, one for each person in each frame of a stream."""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from features.errors import InputError
from features.printable import printable
from features.system.signals import handling
from flows.logs import is_json
from flows.stage_functions import stage_function

if TYPE_CHECKING:
    from models.prediction.live import LiveRow
    from models.stages.predict_live import LiveSummary

KEYS = ("encoders", "frames", "people", "device", "limits")
"""The keys of the stage `predict` that a live prediction has, too."""
NOT_LIVE = ("output", "store", "format", "overlay", "zero_shot", "affine", "force")
IDLE_S = 5.0  # a followed file that has not grown for so long has ended

log = logging.getLogger(__name__)


def add_live_options(predict: argparse.ArgumentParser) -> None:
    """Add the options of a live prediction."""
    live = predict.add_argument_group("live", "predict a stream while it is recorded, to stdout")
    live.add_argument(
        "--live",
        metavar="SOURCE",
        help="a camera (/dev/video0), a file, or - for Matroska or MPEG-TS that is piped to stdin; "
        "a JSON object per line for each person in each frame; a causal head, and no -o",
    )
    live.add_argument(
        "--follow",
        nargs="?",
        type=float,
        const=IDLE_S,
        metavar="SECONDS",
        help=f"the file grows, and has ended once it has not for so long (default: {IDLE_S:g})",
    )
    live.add_argument(
        "--no-drop",
        action="store_true",
        help="let the source wait rather than drop frames; always so for a file that is complete",
    )


def predict_live(arguments: argparse.Namespace, words: list[str], overrides: list[str]) -> int:
    """Run `predict --live`; the run is the only word."""
    from features.media.live.source import find_source
    from flows.keys.settings import settings
    from models.stages.predict_live import predict_live as stage

    _check(arguments, words, overrides)
    source = find_source(arguments.live, arguments.follow)
    keys = settings(
        stage_function("predict"), arguments.config, [*overrides, "videos=[]", "output=."]
    )
    with _stopped_by_signals() as is_stopped:
        output = _Output()
        stage(
            Path(words[0]),
            source,
            on_rows=output.write,
            on_note=lambda note: _say(f"live: {note}"),
            on_summary=lambda summary: _say(_summary(summary), **summary.as_json()),
            drop=False if arguments.no_drop else None,
            is_stopped=lambda: output.is_closed or is_stopped(),
            **{key: keys[key] for key in KEYS},
        )
    return 0


def _check(arguments: argparse.Namespace, words: list[str], overrides: list[str]) -> None:
    given = [f"--{name.replace('_', '-')}" for name in NOT_LIVE if getattr(arguments, name)]
    named = (override.partition("=")[0] for override in overrides)
    given += [name for name in named if name.partition(".")[0] not in KEYS]
    if given:
        raise InputError(
            f"{', '.join(given)}: not with --live, which writes rows to standard output and keeps "
            "nothing; leave it out"
        )
    if len(words) != 1:
        raise InputError(
            f"predict --live needs a RUN and no videos, and {len(words)} words are given: "
            "vaflow predict RUN --live SOURCE"
        )
    if arguments.follow is not None and not arguments.follow > 0:
        raise InputError(f"follow = {arguments.follow:g}: must be more than 0 seconds")


class _Output:
    """Standard output; it is closed if its reader has gone, as `head` does."""

    def __init__(self) -> None:
        self.is_closed = False

    def write(self, rows: "Sequence[LiveRow]", now_s: float) -> None:
        """Write a line for each row, at once."""
        try:
            for row in rows if not self.is_closed else ():
                print(json.dumps(row.as_json(now_s - row.decoded_at_s), allow_nan=False))
            sys.stdout.flush()
        except BrokenPipeError:
            self.is_closed = True


@contextmanager
def _stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGINT or SIGTERM has come; a second one ends at once.

    Both end a stream as its own end does: with the rows of what was decoded, the summary, status 0.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if received:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
        received.append(number)

    with handling(numbers, on_signal):
        yield lambda: bool(received)


def _summary(summary: "LiveSummary") -> str:
    numbers = summary.as_json()
    counts = (
        (summary.packets_damaged, "damaged packets"),
        (summary.windows_dropped, "windows of sound dropped"),
        (summary.clock_jumps, "jumps of the clock"),
    )
    parts = [
        f"live: {summary.frames_in} frames in, {summary.frames_predicted} predicted "
        f"({summary.frames_valid} with somebody), {summary.frames_dropped} dropped",
        *(f"{n} {what}" for n, what in counts if n),
    ]
    if summary.delays_s:
        parts.append(f"{numbers['frames_per_second']:.1f} frames a second")
        parts.append(f"delay {numbers['delay_median_s']:.2f} s, 95 % {numbers['delay_95_s']:.2f} s")
    if summary.frames_predicted and not summary.frames_valid:
        parts.append("nobody was found: --frames whole predicts from whole frames")
    return "; ".join(parts)


def _say(text: str, **numbers: object) -> None:
    """Write a line to stderr, in the format of the log; nothing if nobody reads it."""
    if is_json():
        log.info("%s", text, extra=numbers)
        return
    with suppress(BrokenPipeError):
        print(printable(text), file=sys.stderr, flush=True)
