"""The log lines of a flow run and its subflow runs."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from logging import WARNING, getLevelName
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterTimestamp,
)

AT_ONCE = 200  # lines of one response
BACK = timedelta(seconds=10)  # how late a line may arrive after a newer one


class RunLogs:
    """Reads the log of a run and returns each line once."""

    def __init__(self, client: SyncPrefectClient, run: UUID) -> None:
        self._client, self._run = client, run
        self._seen: set[UUID] = set()
        self._last: datetime | None = None

    def new(self) -> Iterator[str]:
        """The lines since the last call, sorted by time; warnings and errors with their level."""
        inside = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[self._run]))
        runs = [run.id for run in self._client.read_flow_runs(flow_run_filter=inside)]
        since = {"after_": self._last - BACK} if self._last else {}
        log_filter = LogFilter(
            flow_run_id=LogFilterFlowRunId(any_=[self._run, *runs]),
            timestamp=LogFilterTimestamp.model_validate(since),
        )
        offset = 0
        while logs := self._client.read_logs(log_filter, limit=AT_ONCE, offset=offset):
            offset += len(logs)
            for log in logs:
                if log.id in self._seen:
                    continue
                self._seen.add(log.id)
                self._last = max(self._last or log.timestamp, log.timestamp)
                level = f"{getLevelName(log.level)}: " if log.level >= WARNING else ""
                yield f"{log.timestamp.astimezone():%H:%M:%S} {level}{log.message}"
