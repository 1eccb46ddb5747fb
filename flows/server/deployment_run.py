"""`vaflow run STAGE --via prefect`: start a run of the stage's deployment, and watch it."""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from difflib import get_close_matches
from logging import WARNING, getLevelName
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, LogFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings
from prefect.states import Pending
from rich.console import Console

import features.errors
from features.errors import InputError, VaflowError
from flows.console import plain_console
from flows.keys.settings import checked_keys
from flows.server.serve import online
from flows.stage_functions import stage_function, stage_name
from flows.terminal import STILL_RUNNING

CANCELLING = "Cancelling"  # name of the state
DEFAULT = "local"  # the deployment if only a stage is given
POLL_S = 1.0
MARKED_S = (
    60.0  # time for a worker to mark a cancelled run, which is Crashed until its hooks are loaded
)
LAST_S = 3.0  # time for the last batch of log lines to arrive
LINES_AT_ONCE = 200  # of one response
LATE = timedelta(seconds=10)  # by which a line may arrive after a newer one
RAISED = re.compile(r"exception: (\w+):")  # in the message of a failed run


def run_and_watch(
    name: str, config: Path | None, overrides: Sequence[str], timeout_s: float | None
) -> int:
    """Start a run of a stage's deployment and watch it; returns the exit status of a direct run.

    `name` is STAGE or STAGE/DEPLOYMENT. Watching ends after `timeout_s` (status 124) or at Ctrl-C,
    and the run goes on. Raises `InputError` if a name or a key is wrong, and `VaflowError` if no
    server answers or no worker is online.
    """
    stage, _, deployment_name = name.partition("/")
    function = stage_function(stage_name(stage))
    console = plain_console()
    with _server() as client:
        deployment = _deployment(client, f"{stage}/{deployment_name or DEFAULT}")
        checked = checked_keys(function, config, overrides, deployment.parameters)
        keys = checked.model_dump(mode="json", exclude_unset=True)
        deployed = deployment.parameters
        parameters = {k: v for k, v in keys.items() if k not in deployed or v != deployed[k]}
        _refuse_names_without_utf_8(parameters)
        _refuse_another_folder(deployment)
        _refuse_without_worker(client, deployment)
        run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
        page = str(client.api_url).removesuffix("/").removesuffix("/api")
        console.print(f"{stage}: run {run.name}, {page}/runs/flow-run/{run.id}")
        goes_on = f"{run.name} goes on; `prefect flow-run cancel {run.id}` ends it"
        try:
            state = _watched(client, run, deployment, console, timeout_s)
        except KeyboardInterrupt:
            console.print(f"{stage}: no longer watched; {goes_on}")
            raise
        except VaflowError as error:
            raise VaflowError(f"{error}; `prefect flow-run cancel {run.id}` ends it") from None
    if not state.is_final():
        console.print(f"{stage}: watched for {timeout_s:g} s; {goes_on}")
        return STILL_RUNNING
    if state.is_completed():
        return 0
    raise _failure(state)


def _refuse_names_without_utf_8(parameters: Mapping[str, Any]) -> None:
    """Raise `InputError` for a parameter that the messages to the server cannot represent."""
    for key, value in parameters.items():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{key} = {value!r} has a name that is not UTF-8, and Prefect takes no other; "
                "give the path of a link to it, or leave --via out"
            ) from None


@contextmanager
def _server() -> Iterator[SyncPrefectClient]:
    """A client of the configured server; raises `VaflowError` if there is none or it fails."""
    url = get_current_settings().api.url
    remedy = "start one with `make serve` in this folder, or leave --via out, which needs none"
    if not url:
        raise VaflowError(f"no Prefect server is known here (PREFECT_API_URL): {remedy}")
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.TransportError as error:
        why = str(error) or type(error).__name__
        raise VaflowError(f"no Prefect server answers at {url} ({why}): {remedy}") from None
    except PrefectHTTPStatusError as error:
        raise VaflowError(
            f"the Prefect server at {url} refused: {error.response.text.strip()}; if it asks for "
            "authentication, set PREFECT_API_AUTH_STRING; if the deployment is outdated, deploy "
            "again (`prefect --no-prompt deploy --all`, or `make serve`)"
        ) from None


def _deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    """The deployment; raises `InputError` with the nearest name if there is none."""
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        flows = {flow.id: flow.name for flow in client.read_flows()}
        names = sorted(f"{flows[each.flow_id]}/{each.name}" for each in client.read_deployments())
    if not names:
        raise InputError(
            f"there is no deployment {name!r}, nor any other: `make serve` creates those of "
            "prefect.yaml (as does `prefect --no-prompt deploy --all`, once the pool has a worker)"
        )
    near = get_close_matches(name, names, n=1, cutoff=0.0)[0]
    raise InputError(
        f"there is no deployment {name!r}; did you mean {near!r}? The deployments are "
        f"{', '.join(names)}"
    )


def _refuse_another_folder(deployment: DeploymentResponse) -> None:
    """Raise `InputError` if the run would resolve relative paths in another folder."""
    for step in deployment.pull_steps or []:
        folder = step.get("prefect.deployments.steps.set_working_directory", {}).get("directory")
        if folder and Path(folder) != Path.cwd():
            raise InputError(
                f"runs of this deployment work in {folder}, where paths mean other files than in "
                f"{Path.cwd()}; run this command there, or deploy from here"
            )


def _refuse_without_worker(client: SyncPrefectClient, deployment: DeploymentResponse) -> None:
    """Raise `VaflowError` if the work pool is paused or no worker of it is online."""
    pool = deployment.work_pool_name
    if pool and client.read_work_pool(pool).is_paused:
        raise VaflowError(
            f"the work pool {pool!r} is paused; `prefect work-pool resume {pool}` resumes it"
        )
    if pool and not online(client, pool):
        raise VaflowError(
            f"no worker is online on the work pool {pool!r}, so a run would wait: start one with "
            f"`prefect worker start --pool {pool}` (`make serve` does), or leave --via out"
        )


def _watched(
    client: SyncPrefectClient,
    run: FlowRun,
    deployment: DeploymentResponse,
    console: Console,
    timeout_s: float | None,
) -> State:
    """The state of the run when it ends or the time is over; prints its log meanwhile."""
    deadline_s = time.monotonic() + (float("inf") if timeout_s is None else timeout_s)
    lines, shown = RunLogs(client, run.id), ""
    while True:
        state = client.read_flow_run(run.id).state or Pending()
        if state.name != shown and not state.is_final():
            shown = state.name
            console.print(f"{shown}: {state.message}" if state.message else shown)
        for line in lines.new():
            console.print(line)
        pool = deployment.work_pool_name
        if state.is_scheduled():
            _refuse_without_worker(client, deployment)
        elif not state.is_final() and pool and not online(client, pool):
            raise VaflowError(
                f"no worker is online on the work pool {pool!r} any more, and {run.name} may have "
                "ended with it; start a worker and run the same again: what is done is kept"
            )
        if state.is_crashed() and _was_cancelling(client, run):
            deadline_s = min(deadline_s, time.monotonic() + MARKED_S)
        elif state.is_final():
            break
        if time.monotonic() > deadline_s:
            break
        time.sleep(POLL_S)
    if state.is_final():
        time.sleep(LAST_S)
        with suppress(httpx.TransportError):  # the server may have ended with the run
            for line in lines.new():
                console.print(line)
    return state


def _was_cancelling(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Return whether the run was asked to end, even for a moment between two looks at its state."""
    return any(state.name == CANCELLING for state in client.read_flow_run_states(run.id))


class RunLogs:
    """Reads the log of a run and returns each line once."""

    def __init__(self, client: SyncPrefectClient, run: UUID) -> None:
        self._client, self._run = client, run
        self._seen: set[UUID] = set()
        self._last: datetime | None = None

    def new(self) -> Iterator[str]:
        """The lines since the last call, sorted by time; warnings and errors with their level."""
        inside = FlowRunFilter.model_validate({"parent_flow_run_id": {"any_": [self._run]}})
        runs = [run.id for run in self._client.read_flow_runs(flow_run_filter=inside)]
        since = {"after_": self._last - LATE} if self._last else {}
        log_filter = LogFilter.model_validate(
            {"flow_run_id": {"any_": [self._run, *runs]}, "timestamp": since}
        )
        offset = 0
        while logs := self._client.read_logs(log_filter, limit=LINES_AT_ONCE, offset=offset):
            offset += len(logs)
            for log in logs:
                if log.id in self._seen:
                    continue
                self._seen.add(log.id)
                self._last = max(self._last or log.timestamp, log.timestamp)
                level = f"{getLevelName(log.level)}: " if log.level >= WARNING else ""
                yield f"{log.timestamp.astimezone():%H:%M:%S} {level}{log.message}"


def _failure(state: State) -> VaflowError:
    """The error that a direct run would raise for a run that did not complete."""
    message = state.message or ""
    raised = RAISED.search(message)
    kind = getattr(features.errors, raised.group(1), None) if raised else None
    failure = VaflowError(*f"the run ended {state.name}: {message}".split("\n"))
    if isinstance(kind, type) and issubclass(kind, VaflowError):
        failure.exit_status = kind.exit_status
    return failure
