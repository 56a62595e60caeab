"""Which task queues the tables know."""

from __future__ import annotations

from tracker.store import queries
from tracker.store.database import Database

LATEST_RUNS = 200
"""Runs whose steps are looked at for queues that only activities use."""


async def known_task_queues(database: Database, namespace: str, limit: int) -> list[str]:
    """Names of task queues, in order, at most `limit`."""
    sql = database.sql(queries.load("task_queues")["known_queues"])
    parameters = {"namespace": namespace, "runs": LATEST_RUNS, "limit": limit}
    async with database.connection() as connection:
        cursor = await connection.execute(sql, parameters)
        return [row["task_queue"] for row in await cursor.fetchall()]
