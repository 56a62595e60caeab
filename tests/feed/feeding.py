"""A feed and its sequencer as tasks, and subscriptions to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tracker.feed.entries import Entry, Interest
from tracker.feed.feed import Feed, Subscription
from tracker.feed.mailbox import Delivery, Mailbox, Resync
from tracker.feed.sequencer import Sequencer
from tracker.models.feed import ChangeFilter
from tracker.store.changes import feed_position
from tracker.store.database import Database

SOON = 10.0


@asynccontextmanager
async def running(*coroutines: Any) -> AsyncGenerator[None]:
    """Run something beside a block, and end it after."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def feeding(database: Database, namespace: str = "default") -> AsyncGenerator[Feed]:
    """A feed that somebody orders."""
    feed = Feed(database, namespace)
    sequencer = Sequencer(database.options, keep_seconds=3600)
    async with running(feed.run(), sequencer.run()):
        yield feed


@dataclass
class Watching:
    """One subscription with a connection of its own, and what it was sent."""

    feed: Feed
    mailbox: Mailbox
    subscription: Subscription
    entries: list[Entry] = field(default_factory=list[Entry])
    resyncs: list[Resync] = field(default_factory=list[Resync])

    async def until(self, count: int) -> list[Entry]:
        """Take until it has been sent so many changes."""
        async with asyncio.timeout(SOON):
            while len(self.entries) < count:
                self._keep(await self.mailbox.take(1.0))
        return self.entries

    async def rest(self, seconds: float = 0.3) -> list[Entry]:
        """Take until nothing comes for so long."""
        while (item := await self.mailbox.take(seconds)) is not None:
            self._keep(item)
        return self.entries

    def _keep(self, item: Delivery | Resync | None) -> None:
        if isinstance(item, Delivery):
            self.entries.append(item.entry)
        elif item is not None:
            self.resyncs.append(item)


async def watching(
    feed: Feed, after: int | None = None, shown: frozenset[int] = frozenset(), **filters: Any
) -> Watching:
    """Subscribe to a feed, from its newest change on unless told otherwise."""
    if after is None:
        after = (await feed_position(feed._database)).last_seq
    mailbox = Mailbox(feed)
    interest = Interest(feed.namespace, ChangeFilter(**filters))
    subscription = Subscription(interest, after, mailbox, shown)
    mailbox.add(subscription)
    watcher = Watching(feed, mailbox, subscription)
    async with asyncio.timeout(SOON):
        while not subscription.live and not watcher.resyncs:
            watcher._keep(await mailbox.take(0.05))
    return watcher
