"""What there is, at one moment of the live feed: the changes after it can be added to it, without a
gap and without telling one of them twice."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from tracker.core.status import RunStatus
from tracker.models.feed import ChangeFilter, Snapshot
from tracker.models.filters import RunFilter
from tracker.models.wire import RunRead, StepState
from tracker.store.changes import feed_position_on, pending_ids
from tracker.store.database import AsyncConnection, Database
from tracker.store.run_detail import STEPS_MAX, find_run, steps_of
from tracker.store.run_queries import runs_on
from tracker.store.run_rows import run_read, step_state


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot.

    Attributes:
        shown: Pending ids of changes that it shows although they come after its seq.
    """

    snapshot: Snapshot
    shown: frozenset[int]


async def take_snapshot(
    database: Database, namespace: str, filters: ChangeFilter, limit: int
) -> Taken:
    """The runs that the filter's changes are about, newest first; of one run, its steps too.

    Args:
        filters: Statuses of steps say nothing about runs, and are left out.
        limit: Runs at most.
    """
    async with database.transaction() as connection:
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        position = await feed_position_on(connection, database.options)
        found = await _found(connection, database, namespace, filters, limit)
        ids = [run.run_id for run in found.runs]
        shown = await pending_ids(connection, database, namespace, ids, found.steps_of)
    snapshot = Snapshot(seq=position.last_seq, runs=found.runs, steps=found.steps)
    return Taken(snapshot, frozenset(shown))


@dataclass(frozen=True, slots=True)
class _Found:
    """What a snapshot shows.

    Attributes:
        steps_of: Key of the run of which it shows every step.
    """

    runs: list[RunRead]
    steps: list[StepState]
    steps_of: UUID | None = None


async def _found(
    connection: AsyncConnection,
    database: Database,
    namespace: str,
    filters: ChangeFilter,
    limit: int,
) -> _Found:
    if limit == 0:
        return _Found([], [])
    if filters.run_id is not None:
        return await _one(connection, database, namespace, filters.run_id)
    wanted = {str(status) for status in filters.status}
    statuses = [status for status in RunStatus if status in wanted]
    if wanted and not statuses:
        return _Found([], [])
    asked = RunFilter(
        ref_type=filters.ref_type,
        ref_id=filters.ref_id,
        workflow_type=filters.workflow_type,
        status=statuses,
        limit=limit,
    )
    return _Found(await runs_on(connection, database, namespace, asked), [])


async def _one(
    connection: AsyncConnection, database: Database, namespace: str, run_id: UUID
) -> _Found:
    run = await find_run(connection, database, namespace, run_id)
    rows = await steps_of(connection, database, run)
    steps = [StepState(**step_state(row, run["id"])) for row in rows[:STEPS_MAX]]
    return _Found([run_read(run)], steps, run["run_key"] if len(rows) <= STEPS_MAX else None)
