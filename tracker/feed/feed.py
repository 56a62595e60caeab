"""Follows the feed once for all subscribers of a process, and hands each change to those who want
it.

What a reader gets wrong: a subscription is a place in the order, not a queue. Whoever falls behind
is let go and reads on from its place; so nothing is missed, and nothing grows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import dropwhile, islice
from typing import Protocol

from tracker.errors import TrackerError
from tracker.feed.entries import Entry, Interest, InterestIndex
from tracker.store.changes import (
    FeedSession,
    changes_within,
    feed_session,
)
from tracker.store.database import Database

logger = logging.getLogger(__name__)

LOOK_EVERY = 0.5
"""Seconds between two looks where no notification came: notifications may be lost."""
WATCH_EVERY = 1.0
"""Seconds between two words to the sequencer that changes are watched."""
LINGER = 30.0
"""Seconds for which an unwatched feed is followed on: whoever polls comes back."""
AGAIN_AFTER = 0.5
PAGE = 1000
KEPT_IN_MEMORY = 5000
"""Changes of which a process still has the encoded form, for those who come back."""
SLICE_CHANGES = 500
"""Changes read from the table at once for one who is behind."""


class Receiver(Protocol):
    """Takes in changes for subscriptions."""

    def receive(self, subscription: Subscription, entry: Entry) -> None:
        """A wanted change; they come in order, each once."""
        ...

    def left_behind(self, subscription: Subscription, reached: int) -> None:
        """Nothing more comes: the feed itself was interrupted after this seq."""
        ...


class Subscription:
    """A place in the order, and which changes are wanted from there on.

    Args:
        cursor: The seq after which it goes on.
        shown: Pending ids of changes after it that a snapshot has shown already.
    """

    def __init__(
        self,
        interest: Interest,
        cursor: int,
        receiver: Receiver,
        shown: frozenset[int] = frozenset(),
    ) -> None:
        self.interest = interest
        self.cursor = cursor
        self.receiver = receiver
        self.shown = shown
        self.live = False


@dataclass(frozen=True, slots=True)
class Slice:
    """The next wanted changes.

    Attributes:
        through: Everything up to this seq was looked at.
        newest: There was nothing after that.
        lost: The place is unknown: too old, or of another database.
    """

    entries: list[Entry]
    through: int
    newest: bool
    lost: bool = False


@dataclass(slots=True)
class FeedCounters:
    """What this process has handed on, for metrics."""

    changes: int = 0
    deliveries: int = 0
    resyncs: int = 0


class Feed:
    """The feed of one namespace in one process; `run` it as a task.

    Reading works without it too, from the table.
    """

    def __init__(
        self, database: Database, namespace: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._clock = clock
        self._members: InterestIndex[Subscription] = InterestIndex()
        self._recent: deque[Entry] = deque(maxlen=KEPT_IN_MEMORY)
        self._from = 0
        self._wanted = asyncio.Event()
        self._unwanted_at = 0.0
        self._following = asyncio.Event()
        self.namespace = namespace
        self.head = 0
        """Seq of the newest change that was handed on."""
        self.counters = FeedCounters()

    @property
    def subscriptions(self) -> int:
        """Live ones."""
        return len(self._members)

    async def read(self, interest: Interest, after: int, limit: int = SLICE_CHANGES) -> Slice:
        """Read wanted changes after a seq from the table: one slice, which may hold none.

        Raises:
            DatabaseUnavailable: Postgres is away.
        """
        rows, through, position = await changes_within(
            self._database, self.namespace, interest.filters, after, limit
        )
        if not position.kept_after <= after <= position.last_seq:
            return Slice([], after, newest=False, lost=True)
        entries = [entry for entry in map(Entry, rows) if interest.wants(entry)]
        return Slice(entries, through, through >= position.last_seq)

    def recall(self, interest: Interest, after: int) -> Slice | None:
        """As `read`, from memory; None where that has no such place."""
        if not self._following.is_set() or not self._from <= after <= self.head:
            return None
        later = dropwhile(lambda entry: entry.seq <= after, self._recent)
        wanted = (entry for entry in later if interest.wants(entry))
        entries = list(islice(wanted, SLICE_CHANGES))
        full = len(entries) == SLICE_CHANGES
        through = entries[-1].seq if full else self.head
        return Slice(entries, through, not full)

    def wake(self) -> None:
        """Begin to follow, so that changes get their place quickly from now on."""
        self._unwanted_at = self._clock()
        self._wanted.set()

    async def follow(self) -> None:
        """Make sure that the feed is being followed; returns once it is."""
        self.wake()
        await self._following.wait()

    def join(self, subscription: Subscription) -> bool:
        """Hand a subscription all that comes from now on.

        Returns:
            False if it has not come up to `head` yet.
        """
        if not self._following.is_set() or subscription.cursor < self.head:
            return False
        subscription.live = True
        self._members.add(subscription)
        return True

    def leave(self, subscription: Subscription) -> None:
        """Hand it nothing more."""
        subscription.live = False
        self._members.remove(subscription)
        self._unwanted_at = self._clock()

    async def run(self) -> None:
        """Follow the feed while somebody watches, until canceled. Trouble is logged and what was
        missed meanwhile comes later."""
        while True:
            await self._wanted.wait()
            try:
                async with feed_session(self._database.options) as session:
                    await self._take_up(session)
                    await self._follow(session)
            except TrackerError as error:
                logger.warning(
                    "the live feed is not followed: %s", error, extra={"event": "feed.trouble"}
                )
                await asyncio.sleep(AGAIN_AFTER)

    async def _take_up(self, session: FeedSession) -> None:
        position = await session.position()
        if self._following.is_set() and position.kept_after <= self.head <= position.last_seq:
            return
        for member in self._members:
            self.leave(member)
            member.receiver.left_behind(member, self.head)
        self._recent.clear()
        self.head = self._from = position.last_seq
        self._following.set()

    async def _follow(self, session: FeedSession) -> None:
        watch_at = -1.0
        while True:
            now = self._clock()
            if len(self._members) == 0 and now - self._unwanted_at > LINGER:
                self._following.clear()
                self._wanted.clear()
                return
            if now >= watch_at:
                watch_at = now + WATCH_EVERY
                await session.watch()
            rows = await session.changes_after(self.head, PAGE)
            entries = [Entry(row) for row in rows]
            self._forget_erased(entries)
            for entry in entries:
                self._publish(entry)
            if len(rows) < PAGE:
                await session.wait(LOOK_EVERY)

    def _forget_erased(self, entries: list[Entry]) -> None:
        """Nobody who comes back gets what the table has no more."""
        erased = [entry for entry in entries if entry.erases]
        if not erased:
            return
        runs = {entry.run_id for entry in erased}
        keys = {entry.run_key for entry in erased}
        kept = (
            entry
            for entry in self._recent
            if entry.run_id not in runs and (entry.run_id is not None or entry.run_key not in keys)
        )
        self._recent = deque(kept, maxlen=KEPT_IN_MEMORY)

    def _publish(self, entry: Entry) -> None:
        self.head = entry.seq
        if entry.namespace != self.namespace:
            return
        self.counters.changes += 1
        if len(self._recent) == KEPT_IN_MEMORY:
            self._from = self._recent[0].seq
        self._recent.append(entry)
        for member in self._members.wanting(entry):
            if member.live and entry.seq > member.cursor and entry.pending_id not in member.shown:
                self.counters.deliveries += 1
                member.receiver.receive(member, entry)
