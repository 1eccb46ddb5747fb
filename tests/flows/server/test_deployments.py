"""`vaflow serve` with a real server and worker, and the commands that a user types beside it.

The tests share one server and run in this order: each process of Prefect's takes seconds to start.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from features.clip import Clip
from features.datasets.affwild2 import AffWild2Config
from features.errors import VaflowError
from features.manifest.manifest import read_manifest, write_manifest
from features.store.feature_store import FeatureStore
from features.synthetic import render
from flows.command.main import main
from flows.server.deploy import deploy_all
from flows.server.deployment_run import run_and_watch
from flows.server.serve import online

pytestmark = [pytest.mark.slow, pytest.mark.operations]

ROOT = Path(__file__).parents[3]
STAGE = "extract-features"
START_S, STOP_S, RUN_S = 1200, 300, 1200  # generous: a loaded machine needs minutes
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
    "HF_HUB_OFFLINE": "1"
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass(frozen=True)
class Served:
    """A folder as `make demo` leaves it, but smaller and without features, that is served."""

    folder: Path
    url: str
    process: subprocess.Popen

    def typed(self, *words: str) -> tuple[int, str]:
        """What a command typed in the folder ends with and says; nothing tells it the address."""
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_S,
            cwd=self.folder,
            env=ENVIRONMENT,
        )
        return done.returncode, done.stdout

    @property
    def demo(self) -> Path:
        return self.folder / "data" / "demo"

    @property
    def auth(self) -> str:
        """The user and the password of the server."""
        return (self.folder / "data" / "prefect" / "auth_string").read_text().strip()

    def log(self, name: str) -> str:
        return (self.folder / "data" / "prefect" / f"{name}.log").read_text()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    demo = folder / "data" / "demo"
    demo.mkdir(parents=True)
    render(demo / "dataset", clips=4, seconds=2.0, seed=3, workers=1)
    indexed = AffWild2Config(root=demo / "dataset").index(demo)
    write_manifest(demo / "manifest.jsonl", indexed.clips)
    for name in ("prefect.yaml", "prefect.toml"):
        shutil.copy(ROOT / name, folder)
    port = free_port()
    said = folder / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "flows",
                "serve",
                "--port",
                str(port),
                "--timeout",
                str(START_S),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=ENVIRONMENT,
        )
    try:
        deadline = time.monotonic() + START_S
        while "serve: in another shell" not in said.read_text():
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.5)
        yield Served(folder, f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        process.wait(STOP_S)


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def in_served_folder(served, monkeypatch):
    """The working folder of this process is the served one, and its server is the served one."""
    monkeypatch.chdir(served.folder)
    with temporary_settings(
        {PREFECT_API_URL: f"{served.url}/api", PREFECT_API_AUTH_STRING: served.auth}
    ):
        yield


def test_a_deployment_runs_without_parameters_and_shows_the_log_of_its_flows(
    in_served_folder, served, capsys
):
    assert main(["run", "pipeline", "--via", "prefect"]) == 0

    said = capsys.readouterr().out
    assert "4 clips x 2 feature sets: 8 extracted, 0 already there" in said
    assert "train-head: 10 epochs" in said
    assert "score-head: val: CCC valence" in said
    assert (served.demo / "run" / "scores.json").is_file()
    assert len(records(served.demo / "features.zarr")) == 8


def test_a_run_takes_the_keys_of_the_command_and_fails_if_a_clip_is_broken_which_it_names(
    in_served_folder, served, capsys
):
    clip = read_manifest(served.demo / "manifest.jsonl").clips[0]
    manifest = served.demo / "broken.jsonl"
    (served.demo / "broken.mp4").write_text("no video")
    write_manifest(manifest, [clip, Clip(id="broken", video="broken.mp4")])
    before = stamps(served.demo / "features.zarr")

    keys = [f"manifest={manifest}", "frames=whole"]
    assert main(["run", "extract-features", *keys, "--via", "prefect"]) == 1

    said = capsys.readouterr().err
    assert "vaflow: the run ended Failed" in said
    assert "0 extracted, 2 already there, 0 failed, 2 quarantined" in said
    assert "\n  broken (clip-" in said  # the list keeps its lines
    assert "broken (clip-" in served.log("worker")
    assert stamps(served.demo / "features.zarr") == before


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["extract-featurs"], 2, "did you mean 'extract-features'"),
        (["extract-features/lokal"], 2, "did you mean 'extract-features/local'?"),
        (["extract-features", "readers=0"], 2, "readers = 0: Input should be greater than"),
        (["train-head", "train.epochs=0"], 2, "train.epochs = 0: Input should be greater than"),
        (["train-head", "trian.epochs=1"], 2, "the nearest valid one is 'train'"),
        (["train-head", "store=\udce9.zarr"], 2, "not UTF-8, and Prefect takes no other; give the"),
    ],
)
def test_wrong_input_is_named_before_a_run_is_made(
    in_served_folder, capsys, words, status, message
):
    assert main(["run", *words, "--via", "prefect"]) == status
    assert message in capsys.readouterr().err
    with get_client(sync_client=True) as client:
        assert all(
            run.state.is_completed() or run.state.is_failed() for run in client.read_flow_runs()
        )


def test_whatever_prevents_a_run_is_named(in_served_folder, served, tmp_path, monkeypatch, capsys):
    run = ["run", "extract-features", "--via", "prefect"]
    with temporary_settings({PREFECT_API_URL: None}):
        assert main(run) == 1
    assert "no Prefect server is known here" in capsys.readouterr().err
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert main(run) == 1
    assert "start one with `make serve`" in capsys.readouterr().err
    with monkeypatch.context() as without_worker:
        without_worker.setattr("flows.server.deployment_run.online", lambda client, pool: [])
        assert main(run) == 1
    assert "`prefect worker start --pool local`" in capsys.readouterr().err
    with get_client(sync_client=True) as client:
        client.update_work_pool("local", WorkPoolUpdate(is_paused=True))
        assert main(run) == 1
        client.update_work_pool("local", WorkPoolUpdate(is_paused=False))
    assert "`prefect work-pool resume local`" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(run) == 2
    assert f"runs of this deployment work in {served.folder}" in capsys.readouterr().err


def test_what_is_served_cannot_be_served_twice(
    in_served_folder, served, tmp_path, monkeypatch, capsys
):
    assert main(["serve"]) == 1
    assert "data/prefect is served already" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["serve"]) == 2
    assert "there is no prefect.yaml in" in capsys.readouterr().err
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    port = served.url.rsplit(":")[-1]
    assert main(["serve", "--port", port]) == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in capsys.readouterr().err


def test_deployments_have_a_queue_and_the_nightly_schedule_is_off(in_served_folder):
    with get_client(sync_client=True) as client:
        found = {each.id: each for each in client.read_deployments()}
        for deployment in found.values():
            assert deployment.global_concurrency_limit.limit == 1
            assert deployment.concurrency_options.collision_strategy.value == "ENQUEUE"
        nightly = client.read_deployment_by_name("pipeline/nightly")
    assert [schedule.active for schedule in nightly.schedules] == [False]
    assert "Rows per dense window. At least 1." in str(nightly.parameter_openapi_schema)


def test_the_server_answers_only_those_who_know_the_password_and_its_own_pages(served):
    api, user = f"{served.url}/api", tuple(served.auth.split(":"))
    asked = {"method": "POST", "url": f"{api}/deployments/filter", "json": {}}

    def allowed_origin(origin: str) -> str | None:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = httpx.options(f"{api}/deployments/", headers=headers)
        return answer.headers.get("access-control-allow-origin")

    assert httpx.request(**asked).status_code == 401
    assert httpx.request(**asked, auth=("vaflow", "guessed")).status_code == 401
    assert httpx.request(**asked, auth=user).status_code == 200
    assert httpx.get(served.url).status_code == 200  # the page that asks for the password
    assert allowed_origin("http://another.example") is None
    assert allowed_origin(served.url) == served.url
    home = served.folder / "data" / "prefect"
    assert home.stat().st_mode & 0o077 == 0
    assert (home / "auth_string").stat().st_mode & 0o077 == 0
    assert served.auth not in (served.folder / "said").read_text()


def test_a_schedule_that_was_resumed_stays_active_when_all_is_deployed_again(in_served_folder):
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("pipeline/nightly")
        client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=True)
        env = os.environ | {
            "PREFECT_API_URL": PREFECT_API_URL.value(),
            "PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING.value(),
        }

        deploy_all(client, env)

        [schedule] = client.read_deployment_by_name("pipeline/nightly").schedules
        assert schedule.active
        client.update_deployment_schedule(nightly.id, schedule.id, active=False)


def records(store: Path) -> list[Path]:
    return list(store.glob("*-*/*/zarr.json"))


@dataclass(frozen=True)
class EndlessRun:
    """An extraction that cannot end, since this process has claimed its last clip."""

    keys: tuple[str, ...]
    store: Path

    def wait_for_records(self) -> None:
        deadline = time.monotonic() + RUN_S
        while not records(self.store):
            assert time.monotonic() < deadline
            time.sleep(0.2)


@contextmanager
def endless_run(served: Served, name: str) -> Iterator[EndlessRun]:
    """A run of three clips into a store of its own."""
    video = read_manifest(served.demo / "manifest.jsonl").clips[0].video
    manifest, path = served.demo / f"{name}.jsonl", served.demo / f"{name}.zarr"
    write_manifest(manifest, [Clip(id=f"d{k}", video=video) for k in range(3)])
    some_set, _ = FeatureStore.open(served.demo / "features.zarr").feature_sets()
    claim = FeatureStore.open(path, create=True).claim(some_set, "d2")
    assert claim
    try:
        yield EndlessRun((f"manifest={manifest}", f"store={path}", "frames=whole"), path)
    finally:
        claim.release()


def test_a_second_run_waits_and_a_cancelled_run_ends_cancelled_with_its_outcomes(
    in_served_folder, served, capsys
):
    with (
        endless_run(served, "first") as first,
        endless_run(served, "second") as second,
        ThreadPoolExecutor(1) as pool,
        get_client(sync_client=True) as client,
    ):
        in_this_context = copy_context().run  # which has the address of the server
        watching = pool.submit(in_this_context, run_and_watch, STAGE, None, first.keys, None)
        first.wait_for_records()
        (run,) = (each for each in client.read_flow_runs() if each.state.is_running())

        assert main(["run", STAGE, *second.keys, "--via", "prefect", "--timeout", "0.1"]) == 124
        said = capsys.readouterr().out
        assert "extract-features: watched for 0.1 s; " in said
        waiting = re.search(r"goes on; `prefect flow-run cancel (\S+)` ends it", said)[1]
        client.set_flow_run_state(waiting, Cancelling())
        assert client.read_flow_run(waiting).state.is_cancelled()  # it had not begun

        code, said = served.typed(
            sys.executable, "-m", "prefect", "flow-run", "cancel", str(run.id)
        )
        assert code == 0, said
        with pytest.raises(VaflowError, match="the run ended Cancelled: "):
            watching.result()
        one = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        left = {each.key for each in client.read_artifacts(flow_run_filter=one)}
    assert "outcomes" in left
    assert not list(first.store.with_name("first.zarr.work").glob("locks/*"))
    assert not records(second.store)


def test_watching_ends_if_the_worker_is_gone_and_serving_ends_with_no_process_left(
    in_served_folder, served, monkeypatch, capsys
):
    with endless_run(served, "long") as run:

        def online_until_there_are_records(client, pool):  # a real server takes minutes to miss one
            return [] if records(run.store) else online(client, pool)

        monkeypatch.setattr("flows.server.deployment_run.online", online_until_there_are_records)
        assert main(["run", STAGE, *run.keys, "--via", "prefect"]) == 1
        error = capsys.readouterr().err
        assert "no worker is online on the work pool 'local' any more" in error
        assert "`prefect flow-run cancel" in error

        below = psutil.Process(served.process.pid).children(recursive=True)
        assert len(below) > 3  # server, worker, run, decoder
        served.process.terminate()
        assert served.process.wait(STOP_S) == 0
        assert not [process for process in below if process.is_running()]
    assert not (served.folder / "data" / "prefect" / "profiles.toml").exists()
    assert "serve: cancelling the run" in (served.folder / "said").read_text()
    assert len(records(run.store)) < 6
    assert not list(run.store.with_name("long.zarr.work").glob("locks/*"))
