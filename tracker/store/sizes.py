"""How much is waiting, for metrics: bounded counts, so that a scrape never scans a table."""

from __future__ import annotations

from tracker.store import queries
from tracker.store.database import Database

COUNTED_TO = 10_001
"""Where counting stops; this number means "more than 10,000"."""


async def outbox_size(database: Database, namespace: str) -> int:
    """Accepted starts and signals that Temporal has not confirmed."""
    return await _counted(database, namespace, "outbox_size")


async def outbox_dead(database: Database, namespace: str) -> int:
    """Those of them that are given up."""
    return await _counted(database, namespace, "outbox_dead")


async def _counted(database: Database, namespace: str, name: str) -> int:
    sql = database.sql(queries.load("sizes")[name])
    async with database.connection() as connection:
        cursor = await connection.execute(sql, {"namespace": namespace, "limit": COUNTED_TO})
        row = await cursor.fetchone()
    return 0 if row is None else row["size"]
