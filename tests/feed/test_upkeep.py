"""Where no API runs, what is announced is ordered and forgotten all the same."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from tests.clock import Clock
from tests.factories import ARun
from tests.feed.test_feed import reached, write
from tests.starts import count
from tracker.core.ids import Ref
from tracker.embedded.ports import free_port
from tracker.feed import upkeep
from tracker.feed.upkeep import LOOK_EVERY, FeedUpkeep
from tracker.store.changes import sequencer_session
from tracker.store.database import Database, dedicated


async def test_what_waits_is_ordered_once_a_minute(store: Database) -> None:
    clock = Clock()
    looking = FeedUpkeep(store.options, keep_seconds=3600, clock=clock)
    for at, expected in ((0.0, 1), (LOOK_EVERY - 1, 1), (LOOK_EVERY, 3)):
        await write(store, ARun(ref=Ref("order", f"o-{at}")).started())
        clock.now = at
        await looking.look()
        assert await reached(store, "last_seq") == expected
    assert await count(store, "change_pending") == 0


async def test_a_backlog_is_worked_off_look_by_look(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "ROUND_MAX", 2)
    monkeypatch.setattr(upkeep, "ROUNDS_MAX", 2)
    for number in range(5):
        await write(store, ARun(ref=Ref("order", f"o-{number}")).started())
    looking = FeedUpkeep(store.options, keep_seconds=3600, clock=Clock())
    await looking.look()
    assert await reached(store, "last_seq") == 4
    await looking.look()
    assert await reached(store, "last_seq") == 5


async def test_what_is_old_is_forgotten(store: Database) -> None:
    await write(store, ARun().started())
    await FeedUpkeep(store.options, keep_seconds=3600).look()
    async with dedicated(store.options) as connection:
        await connection.execute(
            "UPDATE flowtrail.change SET sequenced_at = now() - interval '2 hours'"
        )
    await FeedUpkeep(store.options, keep_seconds=3600).look()
    assert await reached(store, "kept_after") == 1


async def test_it_leaves_that_to_who_orders_the_feed(store: Database) -> None:
    await write(store, ARun().started())
    async with sequencer_session(store.options) as other:
        assert await other.hold()
        await FeedUpkeep(store.options, keep_seconds=3600).look()
        assert await count(store, "change_pending") == 1
    await FeedUpkeep(store.options, keep_seconds=3600).look()
    assert await count(store, "change_pending") == 0


async def test_trouble_is_logged_once_and_raises_nothing(
    store: Database, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = replace(store.options, dsn=f"postgresql://127.0.0.1:{free_port()}/none")
    clock = Clock()
    looking = FeedUpkeep(nowhere, keep_seconds=3600, clock=clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            clock.now += LOOK_EVERY
            await looking.look()
    [record] = [one for one in caplog.records if one.name == "tracker.feed.upkeep"]
    assert "changes pile up untold" in record.message
