"""Connections of their own: what is given up leaves nothing behind on the server."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest

from tracker.store.database import DatabaseOptions, dedicated

AUTHENTICATING = """SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND state = 'starting'"""


async def connect(dsn: str) -> None:
    async with dedicated(DatabaseOptions(dsn)):
        await asyncio.Event().wait()


@pytest.mark.parametrize("milliseconds", range(0, 12, 2))
async def test_a_connection_given_up_while_it_is_made_is_closed(
    database: str, milliseconds: int
) -> None:
    """Else a session goes on authenticating for a minute, and the database cannot be dropped."""
    connecting = [asyncio.create_task(connect(database)) for _ in range(5)]
    await asyncio.sleep(milliseconds / 1000)
    for one in connecting:
        one.cancel()
    await asyncio.gather(*connecting, return_exceptions=True)
    # Without giving the loop a turn: nothing is left to do.
    until = time.monotonic() + 2
    with psycopg.connect(database, autocommit=True) as watcher:
        while (found := watcher.execute(AUTHENTICATING).fetchone()) != (0,):
            assert time.monotonic() < until, found
            time.sleep(0.02)  # noqa: ASYNC251 - see above
