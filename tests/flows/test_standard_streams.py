"""The command with closed, broken and narrow standard streams, as real processes."""

import os
import shlex
import subprocess
import sys

import pytest

from features.store.feature_store import FeatureStore

pytestmark = pytest.mark.slow

VAFLOW = f"{shlex.quote(sys.executable)} -m flows"


def shell(command: str, cwd, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash; `$?` of the first command of a pipe is its status."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.getcwd()} | environment,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def store(tmp_path) -> str:
    """The name of a store in the working folder whose path is Japanese."""
    FeatureStore.open(tmp_path / "感情.zarr", create=True)
    return "感情.zarr"


@pytest.mark.parametrize(
    ("words", "closed", "status"),
    [  # the quick commands, and once each that of a library's console and of an error
        ("--help", ">&-", 0),
        ("--help", "2>&-", 0),
        ("bogus", ">&-", 2),
        ("bogus", "2>&-", 2),
        ("verify {store}", ">&- 2>&- <&-", 0),
        ("verify none.zarr", ">&- 2>&- <&-", 2),
    ],
)
def test_a_closed_stream_changes_no_exit_status(store, tmp_path, words, closed, status):
    done = shell(f"{VAFLOW} {words.format(store=store)} {closed}", tmp_path)
    assert done.returncode == status
    assert b"Traceback" not in done.stderr


def test_no_file_takes_the_number_of_a_closed_stream(store, tmp_path):
    shell(f"{VAFLOW} export {store} out.h5 >&- 2>&-", tmp_path)
    open_again = shell(f"{VAFLOW} import-h5 out.h5 other.zarr", tmp_path)
    assert open_again.returncode == 0, open_again.stderr


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("--help", 141),
        ("run --help", 141),
        ("verify {store}", 141),
        ("verify none.zarr", 2),
        ("bogus", 2),
    ],
)
def test_a_reader_that_closes_the_pipe_leaves_no_traceback(store, tmp_path, words, status):
    # bash opens the fifo for reading and closes it before the command writes
    words = words.format(store=store)
    done = shell(
        f"mkfifo p; (exec 3<p; exec 3<&-; touch closed) & exec 4>p; "
        f"until [ -e closed ]; do :; done; {VAFLOW} {words} >&4",
        tmp_path,
    )
    assert done.returncode == status, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.parametrize("words", ["verify none.zarr", "bogus", "run train-head manifst=x"])
def test_an_error_keeps_its_status_if_nobody_reads_it(tmp_path, words):
    done = shell(f"{VAFLOW} {words} 2>&1 | true; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert done.returncode == 2
    assert done.stderr == b""


def test_a_full_output_is_one_line(store, tmp_path):
    done = shell(f"{VAFLOW} verify {store} > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(b"vaflow: standard output")
    assert b": No space left on device" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["latin-1", "ascii"],
)
@pytest.mark.parametrize(("command", "status"), [("verify {store}", 0), ("verify ない.zarr", 2)])
def test_what_the_terminal_cannot_show_is_escaped(store, tmp_path, command, status, environment):
    done = shell(f"{VAFLOW} {command.format(store=store)}", tmp_path, **environment)
    assert done.returncode == status
    assert b"Traceback" not in done.stderr
