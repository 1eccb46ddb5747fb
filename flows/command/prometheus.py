"""The metrics of a run, as a file for the textfile collector of Prometheus' node exporter.

The file describes one run of one stage: counters begin at 0 with each run. Only the time of the
last success is kept from the previous file, so that an alert can use its age.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.parser import text_string_to_metric_families

from features.errors import InputError, VaflowError
from features.extraction.outcome import Outcome
from features.printable import printable
from features.system.files import write_atomic
from models.training.config import EpochResult

ENDING = ".prom"  # the collector reads no other file
EVERY_S = 15.0  # a common scrape interval of Prometheus
LAST_SUCCESS = "vaflow_last_success_timestamp_seconds"

MetricT = TypeVar("MetricT", Counter, Gauge)

log = logging.getLogger(__name__)


class RunMetrics:
    """Counts of one run. Hooks may be called from any thread."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage = path, stage
        self._began_s = time.monotonic()
        self._registry = CollectorRegistry()
        disable_created_metrics()  # one series more for each counter, of no use here
        counter, gauge = partial(self._add, Counter), partial(self._add, Gauge)
        self._clips = counter("clips", "Clips that ended, by state.", "feature_set", "state")
        self._rows = counter("rows", "Rows encoded: frames, or steps of sound.", "feature_set")
        self._bytes = counter("bytes_written", "Bytes put into the store.", "feature_set")
        self._epochs = counter("epochs", "Epochs trained.").labels(stage)
        expected = gauge("clips_expected", "Clips times feature sets of the run.")
        self._expected = expected.labels(stage)
        rate = "Rows encoded per second of the run, its start included."
        self._speed = gauge("frames_per_second", rate, "feature_set")
        duration = gauge("run_duration_seconds", "How long the run has taken.")
        self._duration_s = duration.labels(stage)
        running = gauge("run_running", "1 while the run goes on, 0 when it has ended.")
        self._running = running.labels(stage)
        self._running.set(1)
        self._success = gauge("run_success", "1 if the run did all that it had to, else 0.")
        self._last = gauge("last_success_timestamp_seconds", "When a run last did so.")
        if (last_s := last_success(path, stage)) is not None:
            self._last.labels(stage).set(last_s)

    def _add(self, kind: type[MetricT], name: str, description: str, *labels: str) -> MetricT:
        return kind(f"vaflow_{name}", description, ("stage", *labels), registry=self._registry)

    def hooks(self) -> dict[str, Callable[..., None]]:
        """The hooks that a stage calls."""
        return {"on_outcome": self.on_outcome, "on_epoch": self.on_epoch}

    def on_outcome(self, outcome: Outcome, total: int) -> None:
        """Count the outcome of a clip."""
        name = printable(outcome.feature_set)
        self._expected.set(total)
        self._clips.labels(self.stage, name, outcome.state).inc()
        if outcome.state == "extracted":
            self._rows.labels(self.stage, name).inc(outcome.n_rows)
            self._bytes.labels(self.stage, name).inc(outcome.n_bytes)

    def on_epoch(self, epoch: EpochResult) -> None:
        """Count an epoch."""
        self._epochs.inc()

    def write(self) -> None:
        """Replace the file in one step; logs a warning if it cannot be written."""
        seconds = time.monotonic() - self._began_s
        self._duration_s.set(seconds)
        for rows in self._rows.collect():
            for each in rows.samples:
                self._speed.labels(**each.labels).set(each.value / seconds)
        try:
            write_atomic(self.path, generate_latest(self._registry))
        except OSError as error:
            log.warning("the metrics cannot be written to %s: %s", self.path, error.strerror)

    def end(self, *, success: bool) -> None:
        """Record and write how the run ended."""
        self._running.set(0)
        self._success.labels(self.stage).set(success)
        if success:
            self._last.labels(self.stage).set(time.time())
        self.write()


@contextmanager
def recording(path: Path, stage: str, every_s: float = EVERY_S) -> Iterator[RunMetrics]:
    """Write the metrics of a run to `path` at its start, every `every_s` and at its end.

    Raises `InputError` or `VaflowError` at the start if the file cannot be written or collected.
    """
    refuse_unless_collected(path)
    metrics, ended = RunMetrics(path, stage), threading.Event()

    def keep_writing() -> None:
        while not ended.wait(every_s):
            metrics.write()

    metrics.write()
    writer = threading.Thread(target=keep_writing, name="metrics", daemon=True)
    writer.start()
    success = False
    try:
        yield metrics
        success = True
    finally:
        ended.set()
        writer.join()
        metrics.end(success=success)


def refuse_unless_collected(path: Path) -> None:
    """Raise `InputError` or `VaflowError` if the file cannot be collected or written."""
    if path.suffix != ENDING:
        raise InputError(
            f"--metrics {path}: Prometheus' textfile collector reads only files that end in "
            f"{ENDING}; give {path.with_suffix(ENDING)}"
        )
    if path.is_dir():
        raise InputError(f"--metrics {path} is a folder; name a file in it, such as vaflow{ENDING}")
    if not path.parent.is_dir():
        raise InputError(
            f"--metrics {path}: there is no folder {path.parent}; give the one that the node "
            "exporter was started with (--collector.textfile.directory), or create it"
        )
    if not os.access(path.parent, os.W_OK):
        raise VaflowError(
            f"--metrics {path}: {path.parent} cannot be written to (permissions, or a read-only "
            "disk); give another folder, or change that"
        )


def last_success(path: Path, stage: str) -> float | None:
    """When a run of the stage last succeeded, in Unix time, according to the file at `path`.

    None if there is no such file or entry; logs a warning if the file is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == LAST_SUCCESS and sample.labels.get("stage") == stage:
                    return sample.value
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, IndexError) as error:
        log.warning("%s contains no readable metrics (%s); it is replaced", path, error)
    return None
