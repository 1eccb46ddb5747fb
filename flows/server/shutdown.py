"""Ending server, worker and runs: SIGTERM first, and SIGKILL for whatever is left after a time."""

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
RUN_ID = "PREFECT__FLOW_RUN_ID"  # a worker sets it in the process of a run
KILLED = "vaflow serve was killed; run this again: what is done is kept"
WHY = "vaflow serve was ended; run this again: what is done is kept"
RUN_S = 45.0  # Prefect kills a cancelled run after 30 s
MARKED_S = 10.0
WATCHED_S = 6.0  # time for those who watch a run to see its end before the server ends
KILLED_S = 10.0
POLL_S = 0.2


def adopt_orphans() -> None:
    """Adopt descendants whose parent ends, so that `end_all` finds them."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def shut_down(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Terminate a process; kill it with its descendants if it has not ended after `timeout_s`."""
    family = _descendants(process.pid)
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        _kill([*_descendants(process.pid), *family])
        process.kill()
        process.wait()


def end_runs(client: SyncPrefectClient, worker: int, say: Callable[[str], None]) -> None:
    """Cancel the runs of a worker, and wait for their processes and their final state.

    Kills those that do not end in time, and all of them if the server is gone.
    """
    runs = _by_run(_descendants(worker))
    processes = [process for each in runs.values() for process in each]
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
        say(f"serve: the server did not cancel the runs ({error}); killing {len(runs)} runs")
        _kill(processes)


def _settle(client: SyncPrefectClient, run: UUID) -> None:
    """Wait for the worker to mark a run as ended, or mark it: it would block other runs."""
    deadline_s = time.monotonic() + MARKED_S
    while not ((state := client.read_flow_run(run).state) and state.is_final()):
        if time.monotonic() > deadline_s:
            break
        time.sleep(POLL_S)
    if state is None or not state.is_final() or state.is_crashed():  # by the SIGTERM
        client.set_flow_run_state(run, Cancelled(message=WHY), force=True)


def end_all() -> None:
    """Kill all descendants of this process."""
    deadline_s = time.monotonic() + KILLED_S
    while (left := _descendants()) and time.monotonic() < deadline_s:
        _kill(left)
        time.sleep(POLL_S)


def end_left(client: SyncPrefectClient, pool: str) -> None:
    """End the runs, and their processes, that a killed worker of the pool has left.

    They would block other runs forever. No worker of the pool may be online.
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
    by_run: dict[UUID, list[psutil.Process]] = {}
    for process in processes:
        with suppress(psutil.Error):
            if run := process.environ().get(RUN_ID):
                by_run.setdefault(UUID(run), []).append(process)
    return by_run


def _descendants(parent: int | None = None) -> list[psutil.Process]:
    """The descendants of a process, by default of this one."""
    try:
        return psutil.Process(parent).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=KILLED_S)
