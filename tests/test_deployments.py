"""A real Prefect server, a real worker, and the commands that README tells a user to type."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from features.datasets.affwild2 import AffWild2Config
from features.manifest import write_manifest
from features.rendered import render

ROOT = Path(__file__).parents[1]
PREFECT = [sys.executable, "-m", "prefect"]
START_S, STOP_S, RUN_S = 120, 20, 180


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def started(command: list[str], log: Path, **where) -> subprocess.Popen:
    with log.open("wb") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **where
        )


def stopped(process: subprocess.Popen) -> None:
    """End the whole group: a worker outlives its server for minutes if it is only asked to go."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder as `make demo` leaves it, but smaller, and without features."""
    folder = tmp_path_factory.mktemp("deployed")
    demo = folder / "data" / "demo"
    demo.mkdir(parents=True)
    render(demo / "dataset", clips=4, seconds=2.0, seed=3)
    indexed = AffWild2Config(root=demo / "dataset").index(demo)
    write_manifest(demo / "manifest.jsonl", indexed.clips)
    for name in ("prefect.yaml", "prefect.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def prefect(folder):
    """Run a prefect command against a server and a worker that are up; returns status and words."""
    port = free_port()
    where = {
        "cwd": folder,
        "env": os.environ
        | {
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "HF_HUB_OFFLINE": "1",
            "DO_NOT_TRACK": "1",
        },
    }

    def run(*words: str) -> tuple[int, str]:
        done = subprocess.run(
            [*PREFECT, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_S,
            **where,
        )
        return done.returncode, done.stdout

    server = started([*PREFECT, "server", "start", "--port", str(port)], folder / "s.log", **where)
    worker = None
    try:
        deadline = time.monotonic() + START_S
        while not answers(f"http://127.0.0.1:{port}/api/health"):
            assert time.monotonic() < deadline, (folder / "s.log").read_text()
            assert server.poll() is None, (folder / "s.log").read_text()
            time.sleep(0.5)
        assert run("work-pool", "create", "local", "--type", "process")[0] == 0
        code, said = run("--no-prompt", "deploy", "--all")
        assert code == 0, said
        worker = started(
            [*PREFECT, "worker", "start", "--pool", "local"], folder / "w.log", **where
        )
        yield run
    finally:
        for process in (worker, server):
            if process:
                stopped(process)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False


def test_the_deployments_run_with_no_further_parameter(prefect, folder):
    command = ("deployment", "run", "extract-features/local", "--watch", "--watch-timeout", "150")
    code, said = prefect(*command)
    assert code == 0, said + (folder / "w.log").read_text()
    store = folder / "data" / "demo" / "features.zarr"
    assert len(list(store.glob("*-*/*/zarr.json"))) == 8

    before = {path: path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
    code, said = prefect(
        "deployment",
        "run",
        "pipeline/local",
        "--param",
        'train={"epochs": 1}',
        "--watch",
        "--watch-timeout",
        "150",
    )
    assert code == 0, said + (folder / "w.log").read_text()
    assert {p: p.stat().st_mtime_ns for p in store.rglob("*") if p.is_file()} == before
    assert (folder / "data" / "demo" / "run" / "scores.json").is_file()

    next((folder / "data" / "demo" / "dataset" / "videos").rglob("*.mp4")).write_text("no video")
    code, said = prefect(*command)
    assert code == 1, said
    assert "Failed" in said
