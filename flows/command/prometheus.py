"""The metrics of a run, as a file for the textfile collector of Prometheus' node exporter.

The file describes one run of one stage: counters begin at 0 with each run. Only the time of the
last success is kept from the previous file, so that an alert can use its age.
"""

import logging
import os
import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from features.errors import InputError, VaflowError
from features.extraction.outcome import Outcome
from features.printable import printable
from features.system.files import write_atomic
from models.training.config import EpochResult

ENDING = ".prom"  # the collector reads no other file
EVERY_S = 15.0  # a common scrape interval of Prometheus
LAST_SUCCESS = "vaflow_last_success_timestamp_seconds"

log = logging.getLogger(__name__)


class RunMetrics:
    """Counts of one run. Hooks may be called from any thread."""

    def __init__(self, path: Path, stage: str) -> None:
        self.path, self.stage = path, stage
        self._lock = threading.Lock()
        self._began_s = time.monotonic()
        self._clips: Counts[tuple[str, str]] = Counts()
        self._rows: Counts[str] = Counts()
        self._bytes: Counts[str] = Counts()
        self._n_expected = self._n_epochs = 0
        self._success: bool | None = None
        self._last_success_s = last_success(path, stage)

    def hooks(self) -> dict[str, Callable[..., None]]:
        """The hooks that a stage calls."""
        return {"on_outcome": self.on_outcome, "on_epoch": self.on_epoch}

    def on_outcome(self, outcome: Outcome, total: int) -> None:
        """Count the outcome of a clip."""
        with self._lock:
            self._n_expected = total
            self._clips[outcome.feature_set, outcome.state] += 1
            if outcome.state == "extracted":
                self._rows[outcome.feature_set] += outcome.n_rows
                self._bytes[outcome.feature_set] += outcome.n_bytes

    def on_epoch(self, epoch: EpochResult) -> None:
        """Count an epoch."""
        with self._lock:
            self._n_epochs += 1

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics; one without a value yet has no sample."""
        with self._lock:
            clips, rows, written = Counts(self._clips), Counts(self._rows), Counts(self._bytes)
        seconds = time.monotonic() - self._began_s
        by_set = {(name,): n for name, n in rows.items()}
        speeds = {key: n / seconds for key, n in by_set.items() if seconds}
        ended = {} if self._success is None else {(): float(self._success)}
        last = {} if self._last_success_s is None else {(): self._last_success_s}
        counter = partial(self._filled, CounterMetricFamily)
        gauge = partial(self._filled, GaugeMetricFamily)
        yield counter("clips", "Clips that ended, by state.", clips, "feature_set", "state")
        yield counter("rows", "Rows encoded: frames, or steps of sound.", by_set, "feature_set")
        written = {(name,): n for name, n in written.items()}
        yield counter("bytes_written", "Bytes put into the store.", written, "feature_set")
        yield counter("epochs", "Epochs trained.", {(): self._n_epochs})
        expected = {(): self._n_expected}
        yield gauge("clips_expected", "Clips times feature sets of the run.", expected)
        rate = "Rows encoded per second of the run, its start included."
        yield gauge("frames_per_second", rate, speeds, "feature_set")
        yield gauge("run_duration_seconds", "How long the run has taken.", {(): seconds})
        running = {(): float(self._success is None)}
        yield gauge("run_running", "1 while the run goes on, 0 when it has ended.", running)
        yield gauge("run_success", "1 if the run did all that it had to, else 0.", ended)
        yield gauge("last_success_timestamp_seconds", "When a run last did so.", last)

    def _filled(
        self,
        kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
        name: str,
        description: str,
        values: Mapping[tuple[str, ...], float],
        *labels: str,
    ) -> Metric:
        family = kind(f"vaflow_{name}", description, labels=("stage", *labels))
        for key, value in values.items():
            shown = [printable(label) for label in (self.stage, *key)]  # newlines: the format's own
            family.add_metric(shown, value)
        return family

    def write(self) -> None:
        """Replace the file in one step; logs a warning if it cannot be written."""
        try:
            write_atomic(self.path, generate_latest(self))
        except OSError as error:
            log.warning("the metrics cannot be written to %s: %s", self.path, error.strerror)

    def end(self, *, success: bool) -> None:
        """Record and write how the run ended."""
        self._success = success
        if success:
            self._last_success_s = time.time()
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
