"""What waits to be sent over one connection: bounded, whatever its subscriptions want.

A connection that takes its changes too slowly is not fed any further. It gets what it has asked for
at its own pace, from its place in the order, after being told so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum

from tracker.feed.entries import Entry
from tracker.feed.feed import Feed, Subscription

WAITING_MAX = 1000
"""Changes that wait for one connection."""


class Why(StrEnum):
    """Why a subscription is out of step."""

    SLOW = "slow"
    """The connection took its changes too slowly: they follow from its place on."""
    LOST = "lost"
    """Changes after its place are gone, or it is none: only a snapshot helps."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A change for a subscription."""

    subscription: Subscription
    entry: Entry


@dataclass(frozen=True, slots=True)
class Resync:
    """A subscription is out of step."""

    subscription: Subscription
    why: Why


class Mailbox:
    """Subscriptions of one connection, and what waits for it. One task takes, see `take`."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._waiting: deque[Delivery] = deque()
        self._resyncs: deque[Resync] = deque()
        self._behind: deque[Subscription] = deque()
        self._something = asyncio.Event()
        self._members: set[Subscription] = set()

    def add(self, subscription: Subscription) -> None:
        """Begin with a subscription, from its cursor on."""
        self._members.add(subscription)
        self._behind.append(subscription)
        self._something.set()

    def remove(self, subscription: Subscription) -> None:
        """Be done with a subscription; what waits for it is dropped."""
        self._members.discard(subscription)
        self._feed.leave(subscription)
        self._waiting = deque(d for d in self._waiting if d.subscription is not subscription)
        self._resyncs = deque(r for r in self._resyncs if r.subscription is not subscription)
        with suppress(ValueError):
            self._behind.remove(subscription)

    def close(self) -> None:
        """Be done with all."""
        for subscription in list(self._members):
            self.remove(subscription)

    @property
    def reached(self) -> int | None:
        """The seq up to which everything was taken; None while something is on its way."""
        if self._waiting or self._resyncs or self._behind:
            return None
        # Who has read the table may be ahead of the process.
        head = self._feed.head
        return min((max(head, member.cursor) for member in self._members), default=head)

    def receive(self, subscription: Subscription, entry: Entry) -> None:
        """Take in a live change."""
        if len(self._waiting) >= WAITING_MAX:
            self._let_go(entry.seq - 1)
            return
        self._waiting.append(Delivery(subscription, entry))
        self._something.set()

    def left_behind(self, subscription: Subscription, reached: int) -> None:
        """Read on, after this seq, for a subscription that gets nothing any more."""
        waiting = (d.entry.seq for d in self._waiting if d.subscription is subscription)
        first = next(waiting, None)
        subscription.cursor = max(subscription.cursor, reached) if first is None else first - 1
        self._waiting = deque(d for d in self._waiting if d.subscription is not subscription)
        self._behind.append(subscription)
        self._something.set()

    async def take(self, seconds: float) -> Delivery | Resync | None:
        """What is to be sent next; None if nothing came within this time.

        After `Resync` with `LOST` the subscription is no longer in here.

        Raises:
            DatabaseUnavailable: It cannot be told now; what waits stays. Only where something has
                to be read from the table.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._next()
        return None

    def ready(self) -> Delivery | None:
        """The next change, if it is here already."""
        if self._resyncs or not self._waiting:
            return None
        delivery = self._waiting.popleft()
        subscription = delivery.subscription
        subscription.cursor = max(subscription.cursor, delivery.entry.seq)
        return delivery

    async def _next(self) -> Delivery | Resync:
        while True:
            if self._resyncs:
                return self._resyncs.popleft()
            if (delivery := self.ready()) is not None:
                return delivery
            if self._behind:
                await self._catch_up(self._behind[0])
            else:
                self._something.clear()
                await self._something.wait()

    async def _catch_up(self, subscription: Subscription) -> None:
        interest, cursor = subscription.interest, subscription.cursor
        slice_ = self._feed.recall(interest, cursor)
        if slice_ is None:
            slice_ = await self._feed.read(interest, cursor)
        if subscription not in self._members:  # It was removed meanwhile.
            return
        if slice_.lost:
            self.remove(subscription)
            self._resync(subscription, Why.LOST)
            return
        for entry in slice_.entries:
            if entry.pending_id not in subscription.shown:
                self._waiting.append(Delivery(subscription, entry))
        subscription.cursor = slice_.through
        if slice_.newest and self._feed.join(subscription):
            self._behind.remove(subscription)
        elif slice_.newest:
            await self._feed.follow()

    def _let_go(self, reached: int) -> None:
        for subscription in self._members:
            if subscription.live:
                self._feed.leave(subscription)
                self.left_behind(subscription, reached)
                self._resync(subscription, Why.SLOW)
        # What was read for those who were behind already is read again.
        for delivery in reversed(self._waiting):
            delivery.subscription.cursor = delivery.entry.seq - 1
        self._waiting.clear()

    def _resync(self, subscription: Subscription, why: Why) -> None:
        self._feed.counters.resyncs += 1
        self._resyncs.append(Resync(subscription, why))
