"""Starts for tests: encoded, accepted, and what the tables then hold."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from tracker.models.wire import StartRun
from tracker.store import outbox
from tracker.store.accept import Accepted, AcceptedStart, ExistingRun, accept
from tracker.store.database import Database
from tracker.store.outbox import LeasedStart
from tracker.temporal.start_encoder import StartEncoder

NAMESPACE = "default"
QUEUE = "orders"


def request(**fields: Any) -> StartRun:
    """A start of `OrderFulfilment`; fields that are not None replace the defaults."""
    given = {"workflow_type": "OrderFulfilment", "input": {"order": "o-1"}, "task_queue": QUEUE}
    return StartRun(**(given | fields))


def encoded(namespace: str = NAMESPACE, **fields: Any) -> AcceptedStart:
    """A start, encoded by the default data converter."""
    return StartEncoder(namespace).encode(request(**fields))


async def accepted(
    database: Database, start: AcceptedStart, *, lease: float = 0.0
) -> Accepted | ExistingRun:
    """Accept a start; by default nobody holds it."""
    async with database.connection() as connection:
        return await accept(connection, database.options.schema, start, lease=lease)


async def a_leased_start(
    database: Database, namespace: str = NAMESPACE, *, seconds: float = 30.0
) -> LeasedStart:
    """The start that is due longest, now ours."""
    [entry] = await outbox.lease(database, namespace, limit=1, seconds=seconds)
    assert entry.kind == "start"
    return entry


async def rows(database: Database, sql: str, **parameters: Any) -> list[dict[str, Any]]:
    """Rows of any query; `{schema}` is filled in."""
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(sql), parameters)
        return await cursor.fetchall()


async def run_row(database: Database, run_id: UUID) -> dict[str, Any]:
    """The row of one run."""
    [row] = await rows(database, "SELECT * FROM {schema}.run WHERE id = %(id)s", id=run_id)
    return row


async def count(database: Database, table: str) -> int:
    """Rows of one of our tables."""
    [row] = await rows(database, f"SELECT count(*) AS n FROM {{schema}}.{table}")
    return row["n"]
