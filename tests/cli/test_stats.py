"""`stats` on a real database."""

from __future__ import annotations

import asyncio

from tests.cli.conftest import CommandLine
from tests.starts import NAMESPACE, accepted, encoded
from tracker.store import reconcile
from tracker.store.database import Database


async def test_stats_tell_what_waits_and_when_the_last_round_was(
    cli: CommandLine, database: str, store: Database
) -> None:
    cli.set(database_url=database)
    shown = (await asyncio.to_thread(cli.run, "stats")).stdout
    assert "never" in shown
    await accepted(store, encoded())
    cursor = await reconcile.get_cursor(store, NAMESPACE)
    await reconcile.move_cursor(store, NAMESPACE, cursor, cursor.closed_through)
    facts = await asyncio.to_thread(cli.json, "stats")
    assert facts["runs"] == {"accepted": 1}
    assert (facts["outbox"]["size"], facts["outbox"]["dead"]) == (1, 0)
    assert facts["reconciler"]["rounds"] == 1
    assert 0 <= facts["reconciler"]["lag_seconds"] < 60
    assert "ago" in (await asyncio.to_thread(cli.run, "stats")).stdout
