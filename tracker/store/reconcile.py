"""The reconciler's side of the tables: how far it has come, and which runs it should look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tracker.core.status import RunRank
from tracker.store.contention import despite_conflicts
from tracker.store.database import AsyncConnection, Database
from tracker.store.queries import load


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
class OpenRun:
    """A run that the tables hold open."""

    id: UUID
    ordered_at: datetime
    workflow_id: str
    run_key: UUID


async def get_cursor(database: Database, namespace: str) -> datetime | None:
    """Up to which close time runs were projected; None before the first look."""
    rows = await _fetch(database, "get_cursor", namespace=namespace)
    return rows[0]["closed_through"] if rows else None


async def move_cursor(database: Database, namespace: str, closed_through: datetime) -> None:
    """Note how far it has come; never back."""
    parameters = {"namespace": namespace, "closed_through": closed_through}
    async with database.connection() as connection:
        await connection.execute(database.sql(load("reconcile")["move_cursor"]), parameters)


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
    after: OpenRun | None,
    older_than: float,
    limit: int,
) -> list[OpenRun]:
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
    return [OpenRun(**row) for row in rows]


async def mark_lost(database: Database, run_id: UUID) -> bool:
    """Close a run whose history is gone; whether it was open."""
    parameters = {"id": run_id, "rank": RunRank.CLOSED}

    async def mark(connection: AsyncConnection) -> bool:
        sql = database.sql(load("reconcile")["mark_lost"])
        cursor = await connection.execute(sql, parameters)
        return await cursor.fetchone() is not None

    return await despite_conflicts(database, mark)


async def _fetch(database: Database, name: str, **parameters: Any) -> list[dict[str, Any]]:
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(load("reconcile")[name]), parameters)
        return await cursor.fetchall()
