"""What visibility tells: runs that closed, and open ones that the tables do not know.

Visibility lags, and tells newest first; so each round looks back behind what it saw last, and the
cursor stays behind what is still to be done.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import Client

from tracker.store.database import Database
from tracker.store.reconcile import KnownRun, known_runs
from tracker.temporal.executions import list_executions
from tracker.temporal.history.reading import moment
from tracker.temporal.reconcile.pace import ReconcilerOptions
from tracker.temporal.reconcile.projecting import Projecting
from tracker.temporal.scope import Selection

CHUNK = 100
"""Runs that are looked up and projected together."""
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
LIST_SECONDS = 10.0
"""What one page of a visibility query may take."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What a round came to.

    Attributes:
        reached: How far the cursor may move: not past a run that is still to be projected.
        oldest: The earliest of what it had to project, or still has to; None: nothing.
    """

    reached: datetime
    oldest: datetime | None


class ListedRuns:
    """One kind of runs that visibility tells; see the functions below.

    Args:
        query: Gives the visibility query of what happened since a moment.
        dated: When it happened to a run.
        wants: Whether a run must be projected, given what the tables know of it.
    """

    def __init__(
        self,
        client: Client,
        database: Database,
        projecting: Projecting,
        pace: ReconcilerOptions,
        selection: Selection,
        *,
        query: Callable[[datetime], str],
        dated: Callable[[WorkflowExecutionInfo], datetime],
        wants: Callable[[KnownRun | None, WorkflowExecutionInfo], bool],
    ) -> None:
        self._client = client
        self._database = database
        self._projecting = projecting
        self._pace = pace
        self._selection = selection
        self._query = query
        self._dated = dated
        self._wants = wants
        self._done: dict[UUID, datetime] = {}

    def forget(self) -> None:
        """Look anew at everything since the cursor."""
        self._done.clear()

    async def catch_up(self, cursor: datetime) -> CaughtUp:
        """Project what happened since the cursor, less the overlap."""
        since = cursor - timedelta(seconds=self._pace.overlap)
        self._done = {key: at for key, at in self._done.items() if at >= since}
        reached, behind, oldest = cursor, LATEST, LATEST
        async for infos in self._listed(since):
            wanted = await self._project(infos)
            oldest = min([oldest, *map(self._dated, wanted)])
            reached = max([reached, *map(self._dated, infos)])
            late = [info for info in infos if self._projecting.is_behind(key_of(info))]
            behind = min([behind, *map(self._dated, late)])
        oldest = min(oldest, behind)
        return CaughtUp(min(reached, behind), None if oldest == LATEST else oldest)

    async def _listed(self, since: datetime) -> AsyncGenerator[list[WorkflowExecutionInfo]]:
        chunk: list[WorkflowExecutionInfo] = []
        found = list_executions(self._client, self._query(since), seconds=LIST_SECONDS)
        async for info in found:
            chunk.append(info)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    async def _project(self, infos: Sequence[WorkflowExecutionInfo]) -> list[WorkflowExecutionInfo]:
        new = [
            info
            for info in infos
            if key_of(info) not in self._done and self._selection.takes(info.type.name)
        ]
        if not new:
            return []
        keys = [key_of(info) for info in new]
        known = await known_runs(self._database, self._client.namespace, keys)
        wanted = [info for info in new if self._wants(known.get(key_of(info)), info)]
        await self._projecting.project_all((i.execution.workflow_id, key_of(i)) for i in wanted)
        for info in new:
            if not self._projecting.is_behind(key_of(info)):
                self._done[key_of(info)] = self._dated(info)
        return wanted


def closed_since(since: datetime) -> str:
    """Visibility query of runs that closed."""
    return f"CloseTime >= '{since.isoformat()}'"


def started_since(since: datetime) -> str:
    """Visibility query of open runs that started, reset copies among them."""
    return f"StartTime >= '{since.isoformat()}' AND CloseTime IS NULL"


def closed_at(info: WorkflowExecutionInfo) -> datetime:
    """When a run closed."""
    return moment(info.close_time)


def started_at(info: WorkflowExecutionInfo) -> datetime:
    """When a run started."""
    return moment(info.start_time)


def is_stale(known: KnownRun | None, info: WorkflowExecutionInfo) -> bool:
    """Whether a closed run's history was not read to its end."""
    if known is None:
        return True
    return not known.erased and (known.projected_length or 0) < info.history_length


def is_unknown(known: KnownRun | None, _: WorkflowExecutionInfo) -> bool:
    """Whether the tables lack a run. Where its worker is just about to report it, nothing is lost:
    whoever comes second writes the same."""
    return known is None


def key_of(info: WorkflowExecutionInfo) -> UUID:
    """Temporal's run id."""
    return UUID(info.execution.run_id)
