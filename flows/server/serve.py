"""The command `vaflow serve`: Prefect's server, a work pool, a worker and all deployments."""

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from rich.console import Console

from features.errors import InputError, VaflowError
from features.system.files import write_atomic
from features.system.locks import HeldLock, try_lock
from flows.console import plain_console
from flows.server.access import access_settings, auth_string
from flows.server.child_process import tied_command
from flows.server.deploy import DEPLOYMENTS, deploy_all
from flows.server.shutdown import adopt_orphans, end_all, end_left, end_runs, shut_down

HOME = Path("data/prefect")  # prefect.toml looks for the profile there
PROFILE = HOME / "profiles.toml"
AUTH_STRING = HOME / "auth_string"
PROFILE_TEXT = """\
# Written by `vaflow serve` and removed when it ends. Put your own settings in the environment.
active = "vaflow"

[profiles.vaflow]
PREFECT_API_URL = "{url}/api"
PREFECT_API_AUTH_STRING = {auth}
"""  # by which every command in this folder finds the server
HOST, POOL, WORKER = "127.0.0.1", "local", "vaflow-serve"
POLL_S = 0.5
WORKER_S, SERVER_S = 15.0, 20.0  # time to end after SIGTERM
LAST_LINES = 15  # of a log, in an error


def serve(port: int, timeout_s: float) -> int:
    """Serve until Ctrl-C or SIGTERM; exit status 0, with no process left.

    `timeout_s` limits the start of the server and of the worker. Raises `InputError` if there is
    nothing to deploy here, and `VaflowError` if port or database are in use, or a process ends.
    """
    console = plain_console()
    if not DEPLOYMENTS.is_file():
        raise InputError(
            f"there is no {DEPLOYMENTS} in {Path.cwd()}; run this in the folder of the checkout"
        )
    url = f"http://{HOST}:{port}"
    try:
        with ExitStack() as ending:
            ending.callback(_lock().release)
            _refuse_if_taken(port)
            adopt_orphans()
            ending.callback(end_all)
            HOME.chmod(0o700)  # the password, and a database that has it
            auth = auth_string(AUTH_STRING)
            processes = _start(console, ending, url, auth, timeout_s)
            write_atomic(PROFILE, PROFILE_TEXT.format(url=url, auth=json.dumps(auth)).encode())
            ending.callback(PROFILE.unlink, missing_ok=True)
            _tell(console, url)
            while True:
                _refuse_if_ended(processes)
                time.sleep(POLL_S)
    except KeyboardInterrupt:
        console.print("serve: server and worker have ended")
        return 0


def _lock() -> HeldLock:
    """The lock of the database; raises `VaflowError` if another process serves it."""
    lock = try_lock(HOME / ".lock")
    if lock is None:
        raise VaflowError(
            f"{HOME} is served already, see {PROFILE} for the address; use that one, or end it "
            "(Ctrl-C where it was started) before you start another"
        )
    return lock


def _refuse_if_taken(port: int) -> None:
    """Raise `VaflowError` if another process listens on the port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise VaflowError(
                f"port {port} of {HOST} cannot be used ({error.strerror}): end what listens there, "
                "or give another with --port (make serve PORT=...)"
            ) from None


def _start(
    console: Console, ending: ExitStack, url: str, auth: str, timeout_s: float
) -> dict[str, subprocess.Popen[bytes]]:
    """Start server and worker, and create all deployments; `ending` ends the processes."""
    env = _environment(url, auth)
    console.print(f"serve: starting; logs are in {HOME}")
    words = ["server", "start", "--host", HOST, "--port", url.rsplit(":")[-1]]
    server = tied_command(words, env, HOME / "server.log")
    ending.callback(shut_down, server, SERVER_S)
    ending.enter_context(
        temporary_settings({PREFECT_API_URL: f"{url}/api", PREFECT_API_AUTH_STRING: auth})
    )
    client = ending.enter_context(get_client(sync_client=True))
    processes = {"server": server}
    _wait(lambda: client.api_healthcheck() is None, processes, timeout_s)
    end_left(client, POOL)
    with suppress(ObjectAlreadyExists):  # keep the settings of an existing pool
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    began = datetime.now(UTC)
    words = ["worker", "start", "--pool", POOL, "--name", WORKER]
    worker = tied_command(words, env, HOME / "worker.log")
    ending.callback(shut_down, worker, WORKER_S)
    ending.callback(end_runs, client, worker.pid, console.print)
    processes["worker"] = worker
    deploy_all(client, env)
    _wait(
        lambda: any(heartbeat > began for heartbeat in online(client, POOL)), processes, timeout_s
    )
    return processes


def _environment(url: str, auth: str) -> dict[str, str]:
    """The environment of server and worker; prefect.toml has their other settings."""
    home = HOME.resolve()
    inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_PROFILE"}
    return inherited | {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **access_settings(url, auth),
    }


def _wait(
    ready: Callable[[], bool], processes: dict[str, subprocess.Popen[bytes]], timeout_s: float
) -> None:
    """Wait for the last process to be ready; raises `VaflowError` if it ends or takes too long."""
    name = list(processes)[-1]
    deadline_s = time.monotonic() + timeout_s
    while not ready():
        _refuse_if_ended(processes)
        if time.monotonic() > deadline_s:
            raise VaflowError(
                f"the {name} did not start within {timeout_s:g} s; give it more time with "
                f"--timeout {2 * timeout_s:g}, or see {_log_of(name)}:",
                *_last_lines(name),
            )
        time.sleep(POLL_S)


def _refuse_if_ended(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Raise `VaflowError` if one of the processes has ended."""
    for name, process in processes.items():
        if (status := process.poll()) is not None:
            raise VaflowError(
                f"the {name} ended with status {status}; start again: what is done is kept; "
                f"the reason is in {_log_of(name)}:",
                *_last_lines(name),
            )


def _log_of(name: str) -> Path:
    return HOME / f"{name}.log"


def _last_lines(name: str) -> list[str]:
    lines = _log_of(name).read_text(errors="replace").rstrip().splitlines()[-LAST_LINES:]
    return [f"  {line}" for line in lines]


def online(client: SyncPrefectClient, pool: str) -> list[datetime]:
    """The time of the last heartbeat of each online worker of a pool."""
    workers = client.read_workers_for_work_pool(pool)
    return [
        worker.last_heartbeat_time
        for worker in workers
        if worker.status == WorkerStatus.ONLINE and worker.last_heartbeat_time
    ]


def _tell(console: Console, url: str) -> None:
    try:
        shown = Path(sys.argv[0]).parent.relative_to(Path.cwd()) / "prefect"
    except ValueError:  # of another environment
        shown = Path("prefect")
    console.print(
        f"serve: runs, logs and forms are at {url}; the browser asks for the content of "
        f"{AUTH_STRING}"
    )
    console.print(
        "serve: in another shell, in this folder:\n"
        f"  {shown} deployment run extract-features/local --watch\n"
        f"  {shown.with_name('vaflow')} run extract-features -c configs/experiments/demo.yaml "
        "--via prefect\n"
        f"serve: from another folder, first: export PREFECT_API_URL={url}/api "
        f'PREFECT_API_AUTH_STRING="$(cat {shlex.quote(str(AUTH_STRING.resolve()))})"\n'
        "serve: Ctrl-C ends it: runs under way are cancelled, and what they have done is kept"
    )
