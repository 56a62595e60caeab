"""Prepared statements: used where they may be, and no trap for a process that runs while a newer
version migrates."""

from __future__ import annotations

import psycopg
import pytest

from tests.api.recorded import recorded_run
from tests.factories import ARun
from tracker.errors import TrackerError
from tracker.models.filters import RunFilter
from tracker.store.database import Database, DatabaseOptions
from tracker.store.run_detail import get_run
from tracker.store.run_queries import list_runs

PREPARED = "SELECT count(*) AS prepared FROM pg_prepared_statements"


async def prepared(database: Database) -> int:
    async with database.connection() as connection:
        row = await (await connection.execute(PREPARED)).fetchone()
    assert row is not None
    return row["prepared"]


async def test_a_column_that_is_added_meanwhile(database: str) -> None:
    run = await recorded_run(database, ARun())
    async with Database(DatabaseOptions(database), max_connections=1) as pool:
        assert (await get_run(pool, "default", run.identity.id)).workflow_type
        assert len((await list_runs(pool, "default", RunFilter())).runs) == 1
        assert await prepared(pool) == 2
        with psycopg.connect(database, autocommit=True) as other:
            other.execute("ALTER TABLE flowtrail.run ADD COLUMN of_a_newer_version text")
        assert (await get_run(pool, "default", run.identity.id)).workflow_type
        assert len((await list_runs(pool, "default", RunFilter())).runs) == 1


async def test_in_a_transaction_it_is_an_error(database: str) -> None:
    async with Database(DatabaseOptions(database), max_connections=1) as pool:

        async def read() -> None:
            async with pool.transaction() as connection:
                await connection.execute("SELECT * FROM flowtrail.run", prepare=True)

        await read()
        with psycopg.connect(database, autocommit=True) as other:
            other.execute("ALTER TABLE flowtrail.run ADD COLUMN of_a_newer_version text")
        with pytest.raises(TrackerError, match="cached plan"):
            await read()


async def test_nothing_is_prepared_through_a_pooler(database: str) -> None:
    options = DatabaseOptions(database, direct_dsn=database)
    async with Database(options, max_connections=1) as pool:
        await list_runs(pool, "default", RunFilter())
        assert await prepared(pool) == 0
