"""JSON lines: what a record becomes, and that a command's whole stderr is made of them."""

import io
import json
import logging
import logging.config
import os
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from prefect.settings import PREFECT_API_URL
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from features.clip import Clip
from features.extraction.outcome import Outcome
from features.manifest.manifest import write_manifest
from flows import logs
from flows.command.main import main
from flows.command.run import merge_hooks
from flows.console import plain_console
from flows.logs import JsonLines, print_message, set_up
from flows.progress import log_hooks, terminal_hooks
from models.baselines.ridge import RidgeConfig
from models.prediction.progress import VideoProgress
from models.stages.train_head import TrainResult
from models.training.config import EpochResult
from models.training.pace import TrainingStep
from tests.helpers.small_media import TINY_CLIP, tone

pytestmark = pytest.mark.slow


@pytest.fixture
def own_logging() -> Iterator[None]:
    """What a command changes for its process, put back."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    levels = {name: logging.getLogger(name).level for name in logs.OURS}
    root.handlers[:] = []
    yield
    logging.captureWarnings(False)
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def line_of(formatter: JsonLines, message: str = "hello %s", **more) -> dict:
    record = logging.LogRecord("features.x", logging.WARNING, "f.py", 1, message, ("you",), None)
    vars(record).update(more)
    return json.loads(formatter.format(record))


def lines(text: str) -> list[dict]:
    """Each line as the object that it must be."""
    found = [json.loads(line) for line in text.splitlines()]
    for each in found:
        assert {"time", "level", "logger", "message", "run_id"} <= set(each)
    return found


def test_a_record_is_one_object_with_its_extra_as_fields():
    formatter = JsonLines()
    found = line_of(formatter, created=1.5, clip="a", feature_set="clip-1", n=3, left=None)
    assert found == {
        "time": "1970-01-01T00:00:01.500+00:00",
        "level": "WARNING",
        "logger": "features.x",
        "message": "hello you",
        "run_id": formatter.run_id,
        "clip": "a",
        "feature_set": "clip-1",
        "n": 3,
        "left": None,
    }
    assert datetime.fromisoformat(found["time"]).tzinfo == UTC
    assert uuid.UUID(formatter.run_id).version == 4
    assert line_of(JsonLines())["run_id"] != formatter.run_id  # another command's


@pytest.mark.parametrize(
    ("value", "written"),
    [(float("nan"), "nan"), (float("inf"), "inf"), (0.5, 0.5), (True, True), ({1}, "{1}")],
)
def test_what_json_has_not_is_written_as_text(value, written):
    assert line_of(JsonLines(), value=value)["value"] == written


def test_a_line_is_one_line_whatever_is_in_it():
    record = logging.LogRecord("x", 20, "f", 1, "two\nlines \u2028 \udc80 \x00", None, None)
    line = JsonLines().format(record)
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line)["message"] == "two\nlines \u2028 \udc80 \x00"


def test_extra_does_not_write_over_what_every_line_has():
    formatter = JsonLines()
    found = line_of(formatter, time="x", level="y", logger="z", run_id="w")
    assert found["run_id"] == formatter.run_id
    assert (found["level"], found["logger"]) == ("WARNING", "features.x")


def test_a_traceback_is_a_field():
    try:
        raise ValueError("of this")
    except ValueError:
        found = line_of(JsonLines(), exc_info=sys.exc_info())
    assert found["traceback"].startswith("Traceback (most recent call last):\n")
    assert found["traceback"].endswith("ValueError: of this")
    assert line_of(JsonLines(), stack_info="Stack (most recent call last):\n  f")["stack"]


def test_where_prefect_runs_the_flow_the_run_id_is_its_own(monkeypatch):
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "1234")
    assert line_of(JsonLines())["run_id"] == "1234"


def test_a_config_of_logging_may_name_the_formatter():
    # as Prefect's does, with PREFECT_LOGGING_FORMATTERS_JSON_CLASS=flows.logs.JsonLines
    made = logging.config.DictConfigurator({"version": 1}).configure_formatter(
        {"class": "flows.logs.JsonLines", "format": "default"}
    )
    assert line_of(made)["message"]


def test_in_json_all_that_is_told_warned_or_not_caught_is_a_line(own_logging, capsys):
    set_up("json")
    print_message("vaflow: this is wrong")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("odd", UserWarning, stacklevel=1)
    logging.getLogger("features.y").info("ours")
    logging.getLogger("urllib3").info("of others only what is worse")
    error = ZeroDivisionError("by 0")
    sys.excepthook(ZeroDivisionError, error, None)

    def fail() -> None:
        raise KeyError("k")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    found = lines(capsys.readouterr().err)
    assert [each["level"] for each in found] == ["ERROR", "WARNING", "INFO", "CRITICAL", "CRITICAL"]
    assert found[0]["message"] == "this is wrong"
    assert "UserWarning: odd" in found[1]["message"]
    assert found[3]["message"] == "ZeroDivisionError: by 0"
    assert found[3]["traceback"] == "ZeroDivisionError: by 0"
    assert "in fail" in found[4]["traceback"]
    assert len({each["run_id"] for each in found}) == 1


def test_text_stays_as_it_is(own_logging, capsys):
    logging.getLogger().handlers.clear()  # pytest's own
    set_up("text")
    print_message("vaflow: this is wrong")
    logging.getLogger("features.y").info("not shown")
    logging.getLogger("features.y").warning("shown")
    assert capsys.readouterr().err == "vaflow: this is wrong\nWARNING: shown\n"


def test_names_are_escaped_in_the_text_of_the_log(own_logging, capsys):
    logging.getLogger().handlers.clear()  # pytest's own
    set_up("text")
    log, name = logging.getLogger("features.y"), "a\u202e\udce9\nWARNING: forged"
    escaped = r"a\u202e\udce9\nWARNING: forged"
    log.warning("%s has %d rows", Path(name), 3)
    log.warning("of our own:\n\t%s", name)
    print_message(f"vaflow: a list:\n  {name[:3]}")
    try:
        raise ValueError("\u202e")
    except ValueError:
        log.exception("it failed")
    text = capsys.readouterr().err
    assert text.startswith(
        f"WARNING: {escaped} has 3 rows\nWARNING: of our own:\n\t{escaped}\n"
        "vaflow: a list:\n  a\\u202e\\udce9\nERROR: it failed\nTraceback"
    )
    assert text.endswith("ValueError: \\u202e\n")


def test_a_bar_shows_escapes():
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    with terminal_hooks(screen) as hooks:
        hooks["on_case"]("a\u202e\ncase [id]", 2)
    assert r"a\u202e\ncase [id]" in screen.file.getvalue()
    assert "\u202e" not in screen.file.getvalue()


def test_the_console_escapes_lines_and_cells(capsys):
    table = Table("\u202ehead", title="\u202etitle")
    table.add_row("\u202ecell \x1b[2K\udce9")
    plain_console().print("\u202eline\n\tof ours", table)
    text = capsys.readouterr().out
    assert text.startswith("\\u202eline\n")
    assert text.count(r"\u202e") == 4
    assert r"\x1b[2K\udce9" in text
    assert text.replace("\n", "").isprintable()


def test_progress_is_logged_every_so_often_and_at_the_end(caplog):
    log = logging.getLogger("flows.test")
    caplog.set_level(logging.INFO, log.name)
    hooks = log_hooks(log, clips_every_s=1000)
    for k in range(3):
        hooks["on_outcome"](Outcome(f"c{k}", "clip-1", "extracted"), 3)
    assert [(r.done, r.total) for r in caplog.records] == [(3, 3)]

    caplog.clear()
    hooks = log_hooks(log, clips_every_s=0)
    for k in range(3):
        hooks["on_outcome"](Outcome(f"c{k}", "clip-1", "extracted"), 3)
    assert [r.getMessage()[:6] for r in caplog.records] == ["1 of 3", "2 of 3", "3 of 3"]


def test_progress_within_a_video_is_logged_every_so_often_with_rate_and_time_left(caplog):
    log = logging.getLogger("flows.test")
    caplog.set_level(logging.INFO, log.name)
    for clips_every_s in (1000, 0):
        hooks = log_hooks(log, clips_every_s)
        hooks["on_progress"](VideoProgress("talk", "faces", 600, 1800, seconds=6.0))
        hooks["on_progress"](VideoProgress("talk", "faces", 700, None, seconds=7.0))
    assert caplog.messages == [
        "frame 600 of 1800: talk (faces): 100 frames/s, 0:00:12 left",
        "frame 700: talk (faces): 100 frames/s",
    ]


def test_each_step_of_a_training_is_logged_with_its_numbers(caplog):
    log = logging.getLogger("flows.test")
    caplog.set_level(logging.INFO, log.name)
    best = EpochResult(0, 1.5, 0.1, 0.3, 0.2)
    hooks = log_hooks(log)
    hooks["on_epoch"](best)
    hooks["on_case"]("a case", 2)
    hooks["on_case"]("another", 2)
    hooks["on_member"](TrainResult("present", Path("fold-1"), (), best), 5)
    hooks["on_baseline"](RidgeConfig(spans_s=(1.0,)), 4)
    assert caplog.messages == [
        "epoch 1: val mean CCC 0.200",
        "training 1 of 2: a case",
        "training 2 of 2: another",
        "member 1 of 5: fold-1 present",
        "baseline 1 of 4: ridge, spans_s=(1.0,)",
    ]
    first = caplog.records[0]
    assert (first.epoch, first.loss, first.ccc_mean) == (1, 1.5, 0.2)


def test_bars_are_drawn_on_a_terminal_alone():
    for is_terminal in (True, False):
        screen = Console(file=io.StringIO(), force_terminal=is_terminal, width=100)
        with terminal_hooks(screen) as hooks:
            hooks["on_epoch"](EpochResult(6, 1.5, 0.1, 0.3, 0.2))
        shown = screen.file.getvalue()
        assert ("epoch" in shown and "val mean CCC 0.200" in shown) == is_terminal


STEPS = [TrainingStep(2, 10, step, 40, steps_per_s=12.34, left_s=61.0) for step in (5, 6)]
STEP_LINE = "step 6 of 40: epoch 2 of 10, 12.3 steps/s, 0:01:01 left"


def test_steps_of_a_training_are_logged_every_so_often(caplog):
    log = logging.getLogger("flows.test")
    caplog.set_level(logging.INFO, log.name)
    for every_s in (1000, 0):
        hooks = log_hooks(log, steps_every_s=every_s)
        hooks["on_training_step"](STEPS[1])
    assert caplog.messages == [STEP_LINE]
    last = caplog.records[-1]
    assert (last.epoch, last.done, last.total) == (2, 6, 40)


def test_steps_of_a_training_are_lines_where_there_is_no_terminal():
    for is_terminal, every_s in ((True, 0.0), (False, 0.0), (False, 1000.0)):
        screen = Console(file=io.StringIO(), force_terminal=is_terminal, width=100)
        with terminal_hooks(screen, every_s) as hooks:
            for step in STEPS:
                hooks["on_training_step"](step)
        shown = screen.file.getvalue()
        if is_terminal:
            assert "6/40" in shown
            assert "epoch 2 of 10" in shown
        else:
            assert shown == ("" if every_s else f"{STEP_LINE.replace('6', '5', 1)}\n{STEP_LINE}\n")


def test_merged_hooks_call_all_of_their_name():
    said = []
    hooks = merge_hooks(
        [{"a": lambda x: said.append(("first", x))}, {"b": said.append}, {"a": said.append}]
    )
    hooks["a"](1)
    hooks["b"](2)
    assert said == [("first", 1), 1, 2]


@pytest.fixture
def set_up_run(tmp_path, make_video, tiny_clip) -> list[str]:
    """Two good clips and one whose video is a text, and the words that extract them."""
    for name in ("a", "b"):
        make_video(f"{name}.mp4", time_s=np.arange(10) / 25, sound=tone(0.4))
    (tmp_path / "bad.mp4").write_text("no video")
    write_manifest(tmp_path / "m.jsonl", [Clip(id=n, video=f"{n}.mp4") for n in ("a", "b", "bad")])
    encoders = f"encoders={json.dumps([{'kind': 'clip', **tiny_clip}])}"
    words = [f"manifest={tmp_path / 'm.jsonl'}", f"store={tmp_path / 's.zarr'}", encoders]
    return ["run", "extract-features", *words, "frames=whole"]


def test_a_command_logs_json_and_writes_its_metrics(set_up_run, tmp_path, own_logging, capsys):
    path = tmp_path / "vaflow.prom"

    assert main([*set_up_run, "--log-format=json", f"--metrics={path}"]) == 1

    found = lines(capsys.readouterr().err)
    assert len({each["run_id"] for each in found}) == 1
    assert found[0]["message"] == "extract-features begins"
    assert any((each.get("done"), each.get("total")) == (3, 3) for each in found)
    ended = {each["clip"]: each for each in found if "clip" in each}
    assert {clip: each["state"] for clip, each in ended.items()} == {
        "a": "extracted",
        "b": "extracted",
        "bad": "quarantined",
    }
    assert all(each["feature_set"].startswith("clip-") for each in ended.values())
    assert ended["a"]["reason"] == "new"
    assert found[-1]["level"] == "ERROR"
    assert found[-1]["message"].startswith("extract-features: 3 clips x 1 feature sets: 2 extr")
    assert "\n  bad (clip-" in found[-1]["message"]
    values = {}
    for family in text_string_to_metric_families(path.read_text()):
        values |= {(s.name, s.labels.get("state")): s.value for s in family.samples}
    assert values["vaflow_clips_total", "extracted"] == 2
    assert values["vaflow_clips_total", "quarantined"] == 1
    assert values["vaflow_rows_total", None] == 20
    width = TINY_CLIP["embed_dim"]
    assert values["vaflow_bytes_written_total", None] == 20 * (2 * width + 8 + 1)
    assert values["vaflow_run_success", None] == 0


def test_a_dry_run_is_no_success_of_the_stage(set_up_run, tmp_path, own_logging, capsys):
    path = tmp_path / "vaflow.prom"
    words = [*set_up_run, "--dry-run", "--log-format", "json", "--metrics", str(path)]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert any("3 to extract" in each["message"] for each in lines(captured.err))
    assert "3 to extract" in captured.out
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "extract-featurs"], "did you mean 'extract-features'"),
        (["run", "extract-features", "manifset=x"], "the nearest valid one is 'manifest'"),
    ],
)
def test_wrong_input_is_told_in_json_too(words, said, own_logging, capsys):
    assert main([*words, "--log-format", "json"]) == 2
    (found,) = lines(capsys.readouterr().err)
    assert said in found["message"]
    assert not found["message"].startswith("vaflow:")


def test_metrics_where_no_collector_looks_are_wrong_input(
    set_up_run, tmp_path, own_logging, capsys
):
    assert main([*set_up_run, "--metrics", str(tmp_path / "m.txt")]) == 2
    assert "reads only files that end in .prom" in capsys.readouterr().err
    assert not (tmp_path / "s.zarr").exists()


BY_ENVIRONMENT = {  # as README tells for a worker
    "PREFECT_LOGGING_FORMATTERS_JSON_CLASS": "flows.logs.JsonLines",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER": "json",
}


@pytest.mark.parametrize(
    ("before", "more"),
    [("from flows.logs import set_up; set_up('json')", {}), ("", BY_ENVIRONMENT)],
    ids=["demo", "worker"],
)
def test_a_flow_logs_json_as_well(server, before, more):
    code = (
        f"{before}\nfrom prefect import flow, get_run_logger\n"
        "@flow\ndef small():\n    get_run_logger().info('within', extra={'clip': 'a'})\n"
        "small()\n"
    )
    env = os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value())} | more
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    found = lines(done.stderr)
    (within,) = [each for each in found if each["message"] == "within"]
    assert (within["flow_name"], within["clip"]) == ("small", "a")
    assert uuid.UUID(within["flow_run_id"])
    assert len({each["run_id"] for each in found}) == 1
