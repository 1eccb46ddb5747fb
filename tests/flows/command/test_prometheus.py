"""The metrics file, read with Prometheus' own parser."""

import logging
import os
import re
import threading
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from features.errors import InputError, VaflowError
from features.extraction.outcome import Outcome
from features.system.files import write_atomic
from flows.command import prometheus as metrics_file
from flows.command.prometheus import RunMetrics, last_success, recording, refuse_unless_collected
from models.training.config import EpochResult

STAGE = "extract-features"
ENDS = (
    Outcome("a", "clip-1", "extracted", n_rows=100, n_bytes=2000),
    Outcome("b", "clip-1", "extracted", n_rows=50, n_bytes=1000),
    Outcome("c", "clip-1", "failed", "why"),
    Outcome("a", "ast-1", "present", n_rows=7, n_bytes=9),
)


def samples(path: Path) -> dict[tuple[str, ...], float]:
    """Values by name and labels, but for the stage, which every sample must have."""
    found = {}
    for family in text_string_to_metric_families(path.read_text()):
        assert family.documentation
        assert family.type in ("counter", "gauge")
        for sample in family.samples:
            stage = sample.labels.pop("stage")
            assert stage == STAGE
            found[(sample.name, *sample.labels.values())] = sample.value
    return found


def test_the_file_of_an_ended_run_has_its_counts(tmp_path):
    path = tmp_path / "vaflow.prom"
    before_s = time.time()
    with recording(path, STAGE) as metrics:
        for outcome in ENDS:
            metrics.on_outcome(outcome, 6)
        metrics.on_epoch(EpochResult(0, 1.0, 0.1, 0.2, 0.15))
        time.sleep(0.02)
    found = samples(path)
    assert found["vaflow_clips_total", "clip-1", "extracted"] == 2
    assert found["vaflow_clips_total", "clip-1", "failed"] == 1
    assert found["vaflow_clips_total", "ast-1", "present"] == 1
    assert found["vaflow_clips_expected",] == 6
    assert found["vaflow_rows_total", "clip-1"] == 150
    assert found["vaflow_bytes_written_total", "clip-1"] == 3000
    assert ("vaflow_rows_total", "ast-1") not in found  # nothing was encoded of it
    assert found["vaflow_epochs_total",] == 1
    assert found["vaflow_run_running",] == 0
    assert found["vaflow_run_success",] == 1
    seconds = found["vaflow_run_duration_seconds",]
    assert seconds >= 0.02
    assert found["vaflow_frames_per_second", "clip-1"] == pytest.approx(150 / seconds)
    assert before_s <= found["vaflow_last_success_timestamp_seconds",] <= time.time()
    assert [each.name for each in tmp_path.iterdir()] == ["vaflow.prom"]


def test_names_follow_the_conventions_of_prometheus(tmp_path):
    with recording(tmp_path / "v.prom", STAGE) as metrics:
        metrics.on_outcome(ENDS[0], 1)
    text = (tmp_path / "v.prom").read_text()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    assert types
    helps = re.findall(r"^# HELP (\S+) .+\.$", text, re.M)
    assert sorted(helps) == sorted(types)
    for name, kind in types.items():
        assert name.startswith("vaflow_")
        assert name.endswith("_total") == (kind == "counter")
    assert "_created" not in text  # one series more for each counter, of no use here


def test_a_failed_run_says_so_and_keeps_the_time_of_the_last_success(tmp_path):
    path = tmp_path / "v.prom"
    with recording(path, STAGE):
        pass
    succeeded_s = last_success(path, STAGE)

    def fail() -> None:
        with recording(path, STAGE) as metrics:
            metrics.on_outcome(ENDS[2], 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    found = samples(path)
    assert (found["vaflow_run_success",], found["vaflow_run_running",]) == (0, 0)
    assert found["vaflow_last_success_timestamp_seconds",] == succeeded_s
    assert found["vaflow_clips_total", "clip-1", "failed"] == 1
    assert last_success(path, "train-head") is None  # another stage's success is not its own
    assert last_success(tmp_path / "none.prom", STAGE) is None


def test_a_stage_that_never_succeeded_has_no_time_of_success(tmp_path):
    with pytest.raises(OSError, match="full"), recording(tmp_path / "v.prom", STAGE):
        raise OSError("full")
    assert "vaflow_last_success_timestamp_seconds{" not in (tmp_path / "v.prom").read_text()


def test_the_file_exists_from_the_start_of_a_run_and_is_updated_during_it(tmp_path):
    path = tmp_path / "v.prom"
    with recording(path, STAGE, every_s=0.01) as metrics:
        first = samples(path)
        assert first["vaflow_run_running",] == 1
        assert ("vaflow_run_success",) not in first
        metrics.on_outcome(ENDS[0], 2)
        deadline = time.monotonic() + 10
        while ("vaflow_rows_total", "clip-1") not in samples(path):
            assert time.monotonic() < deadline
        assert samples(path)["vaflow_run_running",] == 1
    assert "metrics" not in {thread.name for thread in threading.enumerate()}


def test_a_reader_never_sees_half_a_file(tmp_path):
    path = tmp_path / "v.prom"
    sizes = set()
    with recording(path, STAGE, every_s=0.001) as metrics:
        for k in range(300):
            metrics.on_outcome(Outcome("c", f"clip-{k % 40}", "extracted", n_rows=1), 300)
            text = path.read_text()
            assert text.endswith("\n")
            sizes.add(len(text.split("# TYPE")))
    assert len(sizes) == 1  # every family, each time


def test_labels_are_escaped(tmp_path):
    name = 'a "quoted"\\back\nslash'
    with recording(tmp_path / "v.prom", STAGE) as metrics:
        metrics.on_outcome(Outcome("c", name, "failed"), 1)
    assert samples(tmp_path / "v.prom")["vaflow_clips_total", name, "failed"] == 1
    assert r'feature_set="a \"quoted\"\\back\nslash"' in (tmp_path / "v.prom").read_text()


class Slow(int):
    """A number that takes its time to be added, so that another thread comes between."""

    def __radd__(self, other: int) -> int:
        time.sleep(0.001)
        return int(other) + int(self)


def test_hooks_may_be_called_from_many_threads(tmp_path):
    metrics = RunMetrics(tmp_path / "v.prom", STAGE)

    def settle() -> None:
        for _ in range(20):
            metrics.on_outcome(Outcome("a", "clip-1", "extracted", n_rows=Slow(100)), 80)

    threads = [threading.Thread(target=settle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics.write()
    assert samples(tmp_path / "v.prom")["vaflow_rows_total", "clip-1"] == 8000


def test_a_late_update_never_replaces_the_final_file(tmp_path, monkeypatch):
    began = threading.Event()

    def write_late(path: Path, data: bytes) -> None:
        if threading.current_thread().name == "metrics":
            began.set()
            time.sleep(0.2)
        write_atomic(path, data)

    monkeypatch.setattr(metrics_file, "write_atomic", write_late)
    with recording(tmp_path / "v.prom", STAGE, every_s=0.001):
        assert began.wait(10)
    for thread in threading.enumerate():
        if thread.name == "metrics":
            thread.join()
    assert samples(tmp_path / "v.prom")["vaflow_run_running",] == 0


def test_a_disk_that_takes_no_metrics_does_not_end_the_run(tmp_path, caplog):
    folder = tmp_path / "gone"
    folder.mkdir()
    with recording(folder / "v.prom", STAGE):
        (folder / "v.prom").unlink()
        folder.rmdir()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"the metrics cannot be written to {folder / 'v.prom'}: No such file" in caplog.text


@pytest.mark.parametrize("content", [b"vaflow_x{a=", b"\xff\xfe", b'x{stage="'])
def test_a_damaged_file_is_replaced_with_a_warning(tmp_path, caplog, content):
    (tmp_path / "v.prom").write_bytes(content)
    with recording(tmp_path / "v.prom", STAGE):
        pass
    assert samples(tmp_path / "v.prom")["vaflow_run_success",] == 1
    assert "contains no readable metrics" in caplog.text


def test_the_file_can_be_read_by_the_exporter_which_is_another_user(tmp_path):
    with recording(tmp_path / "v.prom", STAGE):
        pass
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "v.prom").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.fixture
def paths(tmp_path) -> Path:
    (tmp_path / "folder.prom").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("m.txt", r"reads only files that end in .prom; give .*/m\.prom$"),
        ("metrics", r"reads only files that end in .prom; give .*/metrics\.prom$"),
        ("folder.prom", r"is a folder; name a file in it, such as vaflow\.prom$"),
        ("none/m.prom", r"there is no folder .*/none; give the one that the node exporter"),
    ],
)
def test_a_path_that_no_collector_reads_is_refused_before_anything_is_done(paths, name, said):
    with pytest.raises(InputError, match=said), recording(paths / name, STAGE):
        pytest.fail("the run began")
    assert [each.name for each in paths.iterdir()] == ["folder.prom"]


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_file.os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(
        VaflowError, match=f"{tmp_path} cannot be written to .* give another folder"
    ):
        refuse_unless_collected(tmp_path / "m.prom")


def test_labels_are_printable(tmp_path):
    path = tmp_path / "vaflow.prom"
    with recording(path, STAGE) as metrics:
        metrics.on_outcome(Outcome("a", "clip\u202e\udce9\nvaflow_forged 1", "extracted"), 1)
    text = path.read_text()
    assert text.replace("\n", "").isprintable()
    assert (
        samples(path)["vaflow_clips_total", "clip\\u202e\\udce9\nvaflow_forged 1", "extracted"] == 1
    )
