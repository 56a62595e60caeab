"""Sees to it that no run stays open in the tables: projects every run that closes, also those whose
end no worker tells (terminated, timed out, killed).

One reconciler works for each namespace, wherever an advisory lock puts it; the others wait for the
lock. It asks visibility for what closed lately, which may lag; so it also looks at runs that the
tables hold open, a few in each round.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.client import Client
from temporalio.service import RPCError

from tracker.core.payloads import PayloadPolicy
from tracker.errors import TrackerError, TransientError
from tracker.store import reconcile
from tracker.store.advisory_lock import AdvisoryLock, advisory_lock
from tracker.store.database import Database, DatabaseOptions
from tracker.store.reconcile import KnownRun, OpenRun
from tracker.temporal.executions import describe, is_open, list_executions, quoted
from tracker.temporal.history import RefRules
from tracker.temporal.history.reading import moment
from tracker.temporal.projector import Projector
from tracker.temporal.rpc import CALL_SECONDS, bounded_call, translate
from tracker.temporal.scope import Selection

logger = logging.getLogger(__name__)

CHUNK = 100
"""Closed runs that are looked up and projected together."""
LIST_SECONDS = 10.0
"""What one page of a visibility query may take."""


@dataclass(frozen=True, slots=True)
class ReconcilerOptions:
    """Args:
    interval: Seconds between two rounds.
    overlap: Seconds by which a round looks back behind the latest close that was seen: as late as
        visibility may tell of one.
    concurrency: Histories fetched at once.
    quiet: Seconds that a run may be open before the reconciler looks after it.
    budget: Open runs looked after in one round.
    tries: Rounds after which a run that cannot be projected holds up nothing any more.
    """

    interval: float = 2.0
    overlap: float = 30.0
    concurrency: int = 4
    quiet: float = 30.0
    budget: int = 100
    tries: int = 5


@dataclass(slots=True)
class ReconcilerCounters:
    """Monotonic counts since the reconciler was made.

    Attributes:
        rounds: Completed rounds; stands still in those who wait for the lock.
        projected: Runs projected.
        lost: Runs closed as lost.
        failures: Runs that could not be projected, each try counted, and broken rounds.
    """

    rounds: int = 0
    projected: int = 0
    lost: int = 0
    failures: int = 0


class Reconciler:
    """Works in the background of `async with Reconciler(client, options):`.

    Args:
        client: Its namespace is reconciled.
        options: Where the tables are; the lock needs the direct URL.
        policy: What is kept of inputs and outputs; as the namespace's workers have it.
        ref_rules: Derives refs of runs whose memo has none.
        selection: Which workflow types are projected; our own never are.
    """

    def __init__(
        self,
        client: Client,
        options: DatabaseOptions,
        *,
        policy: PayloadPolicy | None = None,
        ref_rules: RefRules | None = None,
        selection: Selection | None = None,
        pace: ReconcilerOptions | None = None,
    ) -> None:
        self.counters = ReconcilerCounters()
        self.pace = pace or ReconcilerOptions()
        self._client = client
        self._options = options
        self._database = Database(options, max_connections=2)
        self._projector = Projector(client, self._database, policy=policy, ref_rules=ref_rules)
        self._selection = selection or Selection()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._warned = False
        self._done: dict[UUID, datetime] = {}
        self._failed: dict[UUID, int] = {}
        self._followed: OpenRun | None = None

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        self._task = asyncio.create_task(self._run(), name="flowtrail-reconciler")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        if self._task is not None:
            # What is half projected is projected again by the next reconciler.
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._projector.__aexit__()
        await self._database.__aexit__()

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                name = f"flowtrail.reconciler:{self._client.namespace}"
                async with advisory_lock(self._options, name) as lock:
                    await self._reconcile(lock)
            except TrackerError as error:
                self._unavailable(error)
            except Exception:
                # A dead reconciler would leave runs open for ever.
                self.counters.failures += 1
                logger.exception("reconciler round failed", extra={"event": "reconciler.failed"})
            await self._rest()

    async def _reconcile(self, lock: AdvisoryLock) -> None:
        while not self._stopping.is_set():
            if await lock.hold():
                await self._round()
            await self._rest()

    async def _round(self) -> None:
        try:
            await self._project_closed()
            await self._follow_open()
        except RPCError as error:
            raise translate(error) from error
        self.counters.rounds += 1
        self._warned = False

    async def _rest(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.pace.interval):
                await self._stopping.wait()

    def _unavailable(self, error: TrackerError) -> None:
        self.counters.failures += 1
        level = logging.DEBUG if self._warned else logging.WARNING
        logger.log(
            level, "cannot reconcile runs now: %s", error, extra={"event": "reconciler.away"}
        )
        self._warned = True

    async def _project_closed(self) -> None:
        """Project what closed since the last look, newest first as visibility tells it; then move
        the cursor, but not past a run that is still to be projected."""
        cursor = await self._cursor()
        since = cursor - timedelta(seconds=self.pace.overlap)
        self._done = {key: closed for key, closed in self._done.items() if closed >= since}
        reached, behind = cursor, None
        async for infos in self._closed_since(since):
            await self._project_all(infos)
            for info in infos:
                closed = moment(info.close_time)
                reached = max(reached, closed)
                if self._is_behind(_key(info)):
                    behind = min(closed, behind or closed)
        await reconcile.move_cursor(self._database, self._client.namespace, behind or reached)

    async def _cursor(self) -> datetime:
        """What closed before the first reconciler came is not taken in."""
        cursor = await reconcile.get_cursor(self._database, self._client.namespace)
        return cursor or datetime.now(UTC)

    async def _closed_since(self, since: datetime) -> AsyncGenerator[list[WorkflowExecutionInfo]]:
        query = f"CloseTime >= '{since.isoformat()}'"
        chunk: list[WorkflowExecutionInfo] = []
        async for info in list_executions(self._client, query, seconds=LIST_SECONDS):
            chunk.append(info)
            if len(chunk) == CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    async def _project_all(self, infos: Sequence[WorkflowExecutionInfo]) -> None:
        new = [info for info in infos if self._is_new(info)]
        if not new:
            return
        keys = [_key(info) for info in new]
        known = await reconcile.known_runs(self._database, self._client.namespace, keys)
        stale = [info for info in new if _is_stale(known.get(_key(info)), info)]
        room = asyncio.Semaphore(self.pace.concurrency)

        async def project(info: WorkflowExecutionInfo) -> None:
            async with room:
                await self._project(info.execution.workflow_id, _key(info))

        outcomes = await asyncio.gather(*map(project, stale), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        for info in new:
            if not self._is_behind(_key(info)):
                self._done[_key(info)] = moment(info.close_time)

    def _is_new(self, info: WorkflowExecutionInfo) -> bool:
        return _key(info) not in self._done and self._selection.takes(info.type.name)

    def _is_behind(self, run_key: UUID) -> bool:
        return 0 < self._failed.get(run_key, 0) < self.pace.tries

    async def _project(self, workflow_id: str, run_key: UUID) -> None:
        """Project a run; what is wrong with it alone is counted, what is away is raised."""
        if self._failed.get(run_key, 0) >= self.pace.tries:
            return
        try:
            projected = await self._projector.project_run(workflow_id, run_key)
        except TransientError:
            raise
        except Exception:
            self.counters.failures += 1
            self._failed[run_key] = self._failed.get(run_key, 0) + 1
            logger.exception(
                "Temporal run %s cannot be projected",
                run_key,
                extra={"event": "projection.failed", "temporal_run_id": str(run_key)},
            )
            return
        self._failed.pop(run_key, None)
        self.counters.projected += projected is not None

    async def _follow_open(self) -> None:
        """Look after some of the runs that the tables hold open, in turn."""
        runs = await reconcile.open_runs(
            self._database,
            self._client.namespace,
            after=self._followed,
            older_than=self.pace.quiet,
            limit=self.pace.budget,
        )
        self._followed = runs[-1] if len(runs) == self.pace.budget else None
        if not runs:
            return
        query = f"RunId IN ({', '.join(quoted(str(run.run_key)) for run in runs)})"
        found = list_executions(self._client, query, seconds=LIST_SECONDS)
        visible = {_key(info): info async for info in found}
        for run in runs:
            info = visible.get(run.run_key)
            if info is None:
                await self._look_for(run)
            elif not is_open(info):
                await self._project(run.workflow_id, run.run_key)

    async def _look_for(self, run: OpenRun) -> None:
        """A run that visibility does not show: not yet, or not any more."""
        async with bounded_call():
            execution = await describe(
                self._client, run.workflow_id, str(run.run_key), seconds=CALL_SECONDS
            )
        if execution is None:
            self.counters.lost += await reconcile.mark_lost(self._database, run.id)
            logger.warning(
                "run %s is lost: Temporal has nothing of it any more",
                run.id,
                extra={"event": "run.lost", "run_id": str(run.id)},
            )
        elif not execution.is_open:
            await self._project(run.workflow_id, run.run_key)


def _key(info: WorkflowExecutionInfo) -> UUID:
    return UUID(info.execution.run_id)


def _is_stale(known: KnownRun | None, info: WorkflowExecutionInfo) -> bool:
    return known is None or (known.projected_length or 0) < info.history_length
