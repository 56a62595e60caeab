"""One at a time among processes: a session's advisory lock, which Postgres frees when its holder's
connection ends, however it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tracker.store.database import AsyncConnection, DatabaseOptions, dedicated, translated


class AdvisoryLock:
    """A lock by name, on a connection of its own."""

    def __init__(self, connection: AsyncConnection, name: str) -> None:
        self._connection = connection
        self._name = name
        self._held = False

    async def hold(self) -> bool:
        """Take the lock if it is free, and make sure that a lock taken earlier still is ours.

        Raises:
            TrackerError: The connection is gone, and the lock with it.
        """
        with translated():
            if self._held:
                await self._connection.execute("SELECT 1")
                return True
            cursor = await self._connection.execute(
                "SELECT pg_try_advisory_lock(hashtextextended(%s, 0)) AS taken", [self._name]
            )
            row = await cursor.fetchone()
        self._held = row is not None and bool(row["taken"])
        return self._held


@asynccontextmanager
async def advisory_lock(options: DatabaseOptions, name: str) -> AsyncGenerator[AdvisoryLock]:
    """A lock that is free again after the block.

    Args:
        name: Apart for each schema, which this adds.
    """
    async with dedicated(options) as connection:
        yield AdvisoryLock(connection, f"{name}:{options.schema}")
