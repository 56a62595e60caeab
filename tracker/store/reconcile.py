"""The reconciler's side of the tables: how far it has come, and which runs it should look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from tracker.core.status import HISTORY_AUTHORITY, RunRank
from tracker.store.contention import despite_conflicts
from tracker.store.database import AsyncConnection, Database
from tracker.store.queries import load

OPEN_STEPS_MAX = 5000


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run in the tables.

    Attributes:
        projected_length: Up to which event its history was projected; None: never.
        erased: Its values and texts were erased and must not come back.
    """

    id: UUID
    projected_length: int | None
    erased: bool = False


@dataclass(frozen=True, slots=True)
class FollowedRun:
    """A run to look after, and where it stands among them.

    Attributes:
        ordered_at: What they are ordered by.
        projected_length: Up to which event its history was projected; None: never.
    """

    id: UUID
    ordered_at: datetime
    workflow_id: str
    run_key: UUID
    projected_length: int | None


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step that the tables hold open.

    Attributes:
        running: Number and start of each attempt that the tables hold under way.
    """

    id: UUID
    run_key: UUID
    kind: str
    step_key: str
    name: str
    type: str | None
    task_queue: str | None
    detail: dict[str, Any] | None
    running: tuple[tuple[int, datetime], ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What an open run waits for, as `core.waiting` tells it, and since when it is paused."""

    id: UUID
    waiting_on: list[dict[str, Any]]
    paused_at: datetime | None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Up to which close and which start runs were looked at."""

    closed_through: datetime
    started_through: datetime


async def known_run(
    database: Database, namespace: str, run_key: UUID
) -> tuple[KnownRun | None, datetime]:
    """A run of Temporal's as the tables have it, and the time by the database's clock: no
    process's own enters a row."""
    [row] = await _fetch(database, "known_run", namespace=namespace, run_key=run_key)
    if row["id"] is None:
        return None, row["now"]
    return KnownRun(row["id"], row["projected_length"], row["erased"]), row["now"]


async def get_cursor(database: Database, namespace: str) -> Cursor:
    """How far it has come; now, where nobody has looked yet."""
    return Cursor(**(await _fetch(database, "get_cursor", namespace=namespace))[0])


async def move_cursor(
    database: Database, namespace: str, cursor: Cursor, oldest: datetime | None = None
) -> datetime:
    """Note a round and how far it has come, never back; return `closed_through` as it is now.

    Args:
        oldest: The earliest close that this round had to project, or still has to.
    """
    parameters = {
        "namespace": namespace,
        "closed_through": cursor.closed_through,
        "started_through": cursor.started_through,
        "oldest": oldest,
    }
    return (await _fetch(database, "move_cursor", **parameters))[0]["closed_through"]


async def known_runs(
    database: Database, namespace: str, run_keys: Sequence[UUID]
) -> dict[UUID, KnownRun]:
    """Those of Temporal's runs that are in the tables, by run key."""
    rows = await _fetch(database, "known_runs", namespace=namespace, run_keys=list(run_keys))
    return {
        row["run_key"]: KnownRun(row["id"], row["projected_length"], row["erased"]) for row in rows
    }


async def open_runs(
    database: Database,
    namespace: str,
    *,
    after: FollowedRun | None,
    older_than: float,
    limit: int,
) -> list[FollowedRun]:
    """Runs that the tables hold open, oldest first.

    Args:
        after: Where to go on.
        older_than: Seconds since they were accepted or started.
    """
    rows = await _fetch(
        database,
        "open_runs",
        namespace=namespace,
        after_at=after and after.ordered_at,
        after_id=after and after.id,
        older_than=older_than,
        limit=limit,
    )
    return [FollowedRun(**row) for row in rows]


async def unverified_runs(
    database: Database,
    namespace: str,
    *,
    after: FollowedRun | None,
    older_than: float,
    limit: int,
) -> list[FollowedRun]:
    """Closed runs that history has not confirmed, the earliest close first.

    Args:
        after: Where to go on.
        older_than: Seconds since they closed.
    """
    rows = await _fetch(
        database,
        "unverified_runs",
        namespace=namespace,
        authority=HISTORY_AUTHORITY,
        after_at=after and after.ordered_at,
        after_id=after and after.id,
        older_than=older_than,
        limit=limit,
    )
    return [FollowedRun(**row) for row in rows]


async def open_steps(
    database: Database, namespace: str, run_keys: Sequence[UUID]
) -> dict[UUID, list[OpenStep]]:
    """Open activities, timers, children and Nexus operations by run, `OPEN_STEPS_MAX` in all."""
    rows = await _fetch(
        database,
        "open_steps",
        namespace=namespace,
        run_keys=list(run_keys),
        limit=OPEN_STEPS_MAX,
    )
    found: defaultdict[UUID, list[OpenStep]] = defaultdict(list)
    for row in rows:
        running = row.pop("running")
        attempts = tuple((a["number"], datetime.fromisoformat(a["started_at"])) for a in running)
        found[row["run_key"]].append(OpenStep(**row, running=attempts))
    return found


async def note_waiting(database: Database, runs: Sequence[Waiting]) -> None:
    """Set what open runs wait for; a run for which nothing has changed is not touched."""
    told = Jsonb(
        [
            {
                "id": str(run.id),
                "waiting_on": run.waiting_on,
                "paused_at": run.paused_at and run.paused_at.isoformat(),
            }
            for run in runs
        ]
    )

    async def note(connection: AsyncConnection) -> None:
        await connection.execute(database.sql(load("reconcile")["note_waiting"]), {"runs": told})

    await despite_conflicts(database, note)


async def mark_lost(database: Database, run_id: UUID) -> bool:
    """Close a run whose history is gone; whether it was open."""
    return await _marked(database, "mark_lost", id=run_id, rank=RunRank.CLOSED)


async def mark_unverifiable(database: Database, run_id: UUID) -> bool:
    """Note that history can never confirm a run's close; whether that was new."""
    return await _marked(database, "mark_unverifiable", id=run_id, authority=HISTORY_AUTHORITY)


async def _marked(database: Database, name: str, **parameters: Any) -> bool:
    async def mark(connection: AsyncConnection) -> bool:
        cursor = await connection.execute(database.sql(load("reconcile")[name]), parameters)
        return await cursor.fetchone() is not None

    return await despite_conflicts(database, mark)


async def _fetch(database: Database, name: str, **parameters: Any) -> list[dict[str, Any]]:
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql(load("reconcile")[name]), parameters, prepare=True
        )
        return await cursor.fetchall()
