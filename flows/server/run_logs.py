"""What a flow run and the runs inside it have logged, line by line, each once."""

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

AT_ONCE = 200  # lines that a server gives in one answer
BACK = timedelta(seconds=10)  # how far a line may lie before one that was read already


class RunLogs:
    """Remembers which lines were given."""

    def __init__(self, client: SyncPrefectClient, run: UUID) -> None:
        self._client, self._run = client, run
        self._seen: set[UUID] = set()
        self._last: datetime | None = None

    def new(self) -> Iterator[str]:
        """The lines that came since, in the order of their time; what warns says so."""
        inside = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[self._run]))
        runs = [run.id for run in self._client.read_flow_runs(flow_run_filter=inside)]
        since = {"after_": self._last - BACK} if self._last else {}
        wanted = LogFilter(
            flow_run_id=LogFilterFlowRunId(any_=[self._run, *runs]),
            timestamp=LogFilterTimestamp.model_validate(since),
        )
        offset = 0
        while logs := self._client.read_logs(wanted, limit=AT_ONCE, offset=offset):
            offset += len(logs)
            for log in logs:
                if log.id in self._seen:
                    continue
                self._seen.add(log.id)
                self._last = max(self._last or log.timestamp, log.timestamp)
                level = f"{getLevelName(log.level)}: " if log.level >= WARNING else ""
                yield f"{log.timestamp.astimezone():%H:%M:%S} {level}{log.message}"
