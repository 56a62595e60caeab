"""Gives announced changes their order: one process at a time, by an advisory lock, in rounds.

Every API process runs one of these; all but one wait for the lock. Quick rounds while somebody,
anywhere, watches; else one a second, so that an idle feed costs nearly nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tracker.errors import TrackerError
from tracker.store.changes import SequencerSession, sequencer_session
from tracker.store.database import DatabaseOptions

logger = logging.getLogger(__name__)

QUICK = 0.015
"""Seconds between two rounds while somebody watches."""
SLOW = 1.0
WATCHED_SECONDS = 3.0
"""How long one word that changes are watched holds; watching processes repeat it every second."""
ROUND_MAX = 5000
"""Changes of one round."""
TAKE_OVER_EVERY = 0.5
"""Seconds between two tries for the lock: a sequencer that died is replaced that soon."""
FORGET_EVERY = 30.0
FORGET_MAX = 2000
"""Of one round: deleting a backlog must not hold up what is new."""
SETTLED_SECONDS = 2.0
"""Quick rounds look only at ids that were new within this time. What was moved before stays in the
index until a vacuum, which an old transaction somewhere may hold up for hours."""
FULL_LOOK_EVERY = 1.0
FULL_LOOK_SHARE = 0.05
"""Of the time, at most, spent on looking at all ids: what committed late is found by that."""


@dataclass(slots=True)
class SequencerCounters:
    """What this process's sequencer has done, for metrics.

    Attributes:
        leading: 1 while this process is the sequencer.
        changes: Changes that it gave their place.
        rounds: Times it looked.
    """

    leading: int = 0
    changes: int = 0
    rounds: int = 0


class Sequencer:
    """Runs until it is canceled.

    Args:
        keep_seconds: How long changes are kept for those who come back.
    """

    def __init__(
        self,
        options: DatabaseOptions,
        *,
        keep_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._keep_seconds = keep_seconds
        self._clock = clock
        self.counters = SequencerCounters()

    async def run(self) -> None:
        """Be the sequencer whenever nobody else is. What fails is logged, once until it works
        again, and tried anew."""
        troubled = False
        while True:
            try:
                async with sequencer_session(self._options) as session:
                    while not await session.hold():
                        troubled = False
                        await asyncio.sleep(TAKE_OVER_EVERY)
                    troubled = False
                    self.counters.leading = 1
                    logger.info("this process orders the live feed", extra={"event": "feed.leads"})
                    await self._lead(session)
            except TrackerError as error:
                level = logging.DEBUG if troubled else logging.WARNING
                logger.log(
                    level, "the live feed stands still: %s", error, extra={"event": "feed.stands"}
                )
                troubled = True
                await asyncio.sleep(TAKE_OVER_EVERY)
            finally:
                self.counters.leading = 0

    async def _lead(self, session: SequencerSession) -> None:
        await session.listen()
        looks = _Looks(self._clock)
        watched_until = forget_at = -1.0
        while True:
            began = self._clock()
            round_ = await session.sequence(looks.above(began), ROUND_MAX)
            looks.saw(round_.highest, self._clock() - began)
            self.counters.rounds += 1
            self.counters.changes += round_.moved
            if began >= forget_at:
                forgotten = await session.forget(self._keep_seconds, FORGET_MAX)
                await session.forget_tickets()
                forget_at = began + (FORGET_EVERY if forgotten < FORGET_MAX else 0.0)
            if round_.moved >= ROUND_MAX:
                continue
            watched_for = watched_until - self._clock()
            if watched_for > WATCHED_SECONDS / 2:
                await asyncio.sleep(QUICK)  # Listening is dearer, and nothing new is to be heard.
                continue
            quick = watched_for > 0 or forget_at <= began
            if await session.wait(QUICK if quick else SLOW):
                watched_until = self._clock() + WATCHED_SECONDS


class _Looks:
    """From which pending id the next round looks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._settled = 0
        self._recent: deque[tuple[float, int]] = deque()
        self._full_at = -1.0
        self._full = False

    def above(self, now: float) -> int:
        while self._recent and self._recent[0][0] < now - SETTLED_SECONDS:
            self._settled = max(self._settled, self._recent.popleft()[1])
        self._full = now >= self._full_at
        return 0 if self._full else self._settled

    def saw(self, highest: int | None, seconds: float) -> None:
        now = self._clock()
        if self._full:
            self._full_at = now + max(FULL_LOOK_EVERY, seconds / FULL_LOOK_SHARE)
        if highest is not None:
            self._recent.append((now, highest))
