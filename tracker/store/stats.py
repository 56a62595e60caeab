"""How the tracker is doing: bounded counts, so that neither a scrape nor a caller scans a table."""

from __future__ import annotations

from tracker.core.status import HISTORY_AUTHORITY, RunStatus
from tracker.models.stats import COUNTED_TO, OutboxStats, ReconcilerStats, RecorderStats, Stats
from tracker.store import queries
from tracker.store.database import Database


async def read_stats(database: Database, namespace: str) -> Stats:
    """Figures of one namespace.

    Raises:
        DatabaseUnavailable: Postgres is away.
    """
    parameters = {
        "namespace": namespace,
        "statuses": [str(status) for status in RunStatus],
        "authority": HISTORY_AUTHORITY,
        "limit": COUNTED_TO,
    }
    async with database.connection() as connection:
        sql = database.sql(queries.load("stats")["stats"])
        cursor = await connection.execute(sql, parameters)
        [row] = await cursor.fetchall()
        cursor = await connection.execute(database.sql(queries.load("stats")["recorders"]))
        [recorders] = await cursor.fetchall()
    return Stats(
        namespace=namespace,
        runs=row["runs"],
        unverified=row["unverified"],
        oldest_unverified_seconds=row["oldest_unverified_seconds"],
        unverifiable=row["unverifiable"],
        outbox=OutboxStats(
            size=row["outbox"],
            dead=row["outbox_dead"],
            oldest_seconds=row["outbox_oldest_seconds"],
        ),
        reconciler=ReconcilerStats(
            round_at=row["round_at"],
            since_round_seconds=row["since_round_seconds"],
            rounds=row["rounds"] or 0,
            lag_seconds=row["lag_seconds"],
            closed_through=row["closed_through"],
        ),
        recorders=RecorderStats(**recorders),
    )
