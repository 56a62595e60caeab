"""Statements that lost against another writer, run again: Postgres ends one of two transactions
that block each other, and nothing of it is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from psycopg import errors as pg

from tracker.store.database import AsyncConnection, Database

Result = TypeVar("Result")

TRIES = 5


async def despite_conflicts(
    database: Database, work: Callable[[AsyncConnection], Awaitable[Result]]
) -> Result:
    """Run work on a connection of the pool, again if a conflict with another writer ended it.

    Args:
        work: One statement or one transaction; whatever it did before it failed is undone.

    Raises:
        TrackerError: Translated driver errors, a conflict that came `TRIES` times among them.
    """
    async with database.connection() as connection:
        for attempt in range(1, TRIES):
            try:
                return await work(connection)
            except (pg.DeadlockDetected, pg.SerializationFailure):
                await asyncio.sleep(0.005 * 2**attempt)
        return await work(connection)
