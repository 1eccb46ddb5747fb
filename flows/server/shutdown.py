"""How server, worker and runs end: each is asked, waited for, and then killed with all below it."""

import ctypes
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.exceptions import PrefectException
from prefect.states import Cancelled, Cancelling, Crashed

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
RUN_ID = "PREFECT__FLOW_RUN_ID"  # what a worker tells the process of a run
KILLED = "vaflow serve was killed; run it again, for what is done is kept"
WHY = "vaflow serve was ended; run it again, for what is done is kept"
RUN_S = 45.0  # Prefect gives a run that is cancelled 30 s before it kills it
MARKED_S = 10.0
WATCHED_S = 6.0  # for those who watch a run to see its end before the server is gone
KILLED_S = 10.0
POLL_S = 0.2


def adopt_orphans() -> None:
    """Become the parent of what loses its own below us, so that `end_all` finds it."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def shut_down(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Ask a process to end, and kill it with its descendants where it has not after `timeout_s`."""
    family = _descendants(process.pid)
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _kill([*_descendants(process.pid), *family])
        process.kill()
        process.wait()


def end_runs(client: SyncPrefectClient, worker: int, say: Callable[[str], None]) -> None:
    """Cancel the runs that a worker has under way, and wait until they and their state are final.

    What does not end in time, or cannot be cancelled because the server is gone, is killed.
    """
    runs = _by_run(_descendants(worker))
    processes = [process for of_one in runs.values() for process in of_one]
    try:
        for run in runs:
            say(f"serve: cancelling the run {client.read_flow_run(run).name}")
            client.set_flow_run_state(run, Cancelling(message=WHY))
        _, alive = psutil.wait_procs(processes, timeout=RUN_S)
        _kill(alive)
        for run in runs:
            _settle(client, run)
        time.sleep(WATCHED_S if runs else 0)
    except (httpx.HTTPError, PrefectException) as error:
        say(f"serve: the server did not take it ({error}); killing {len(runs)} runs")
        _kill(processes)


def _settle(client: SyncPrefectClient, run: UUID) -> None:
    """Wait for the worker to mark a run as ended; a run that is not keeps others waiting."""
    deadline_s = time.monotonic() + MARKED_S
    while not _is_final(client, run):
        if time.monotonic() > deadline_s:
            client.set_flow_run_state(run, Cancelled(message=WHY), force=True)
            return
        time.sleep(POLL_S)
    state = client.read_flow_run(run).state
    if state is not None and state.is_crashed():  # by the SIGTERM that cancelled it
        client.set_flow_run_state(run, Cancelled(message=WHY), force=True)


def _is_final(client: SyncPrefectClient, run: UUID) -> bool:
    """Whether a run has ended."""
    state = client.read_flow_run(run).state
    return state is not None and state.is_final()


def end_all() -> None:
    """Kill whatever is still below this process, however it came there."""
    deadline_s = time.monotonic() + KILLED_S
    while (left := _descendants()) and time.monotonic() < deadline_s:
        _kill(left)
        time.sleep(POLL_S)


def end_left(client: SyncPrefectClient, pool: str) -> None:
    """End what a worker of the pool that was killed has left: its runs' processes, and its runs.

    They would keep others waiting for ever. No worker of the pool may be up.
    """
    left = FlowRunFilter.model_validate(
        {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    )
    processes = _by_run(psutil.process_iter())
    for run in client.read_flow_runs(flow_run_filter=left):
        if run.work_pool_name == pool:
            _kill(processes.get(run.id, []))
            client.set_flow_run_state(run.id, Crashed(message=KILLED), force=True)


def _by_run(processes: Iterable[psutil.Process]) -> dict[UUID, list[psutil.Process]]:
    """Those of the processes that work on a flow run, by the run's id."""
    found: dict[UUID, list[psutil.Process]] = {}
    for process in processes:
        with suppress(psutil.Error):
            if run := process.environ().get(RUN_ID):
                found.setdefault(UUID(run), []).append(process)
    return found


def _descendants(parent: int | None = None) -> list[psutil.Process]:
    """All processes below this one, or another."""
    try:
        return psutil.Process(parent).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(processes: list[psutil.Process]) -> None:
    """Kill them, and wait for them."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=KILLED_S)
