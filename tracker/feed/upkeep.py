"""Keeps the feed's tables small where no API process runs.

Workers alone would announce changes for ever, and nobody would take them. So whoever reconciles
orders, now and then, what waits, unless another process does, and forgets what is old.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tracker.errors import TrackerError
from tracker.feed.sequencer import FORGET_MAX, ROUND_MAX
from tracker.store.changes import SequencerSession, sequencer_session
from tracker.store.database import DatabaseOptions

logger = logging.getLogger(__name__)

LOOK_EVERY = 60.0
ROUNDS_MAX = 20
"""Of one look, so that a backlog does not keep from reconciling; then it goes on with the next."""


class FeedUpkeep:
    """Call `look` as often as you like.

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
        self._due = -1.0
        self._troubled = False

    async def look(self) -> None:
        """Order what waits, once a minute, unless another process does. What fails is logged, once
        until it works again: it must not keep from more important work."""
        if self._clock() < self._due:
            return
        try:
            async with sequencer_session(self._options) as session:
                finished = not await session.hold() or await self._order(session)
        except TrackerError as error:
            level = logging.DEBUG if self._troubled else logging.WARNING
            logger.log(
                level, "changes pile up untold: %s", error, extra={"event": "feed.upkeep_failed"}
            )
            self._troubled = finished = True
        else:
            self._troubled = False
        if finished:
            self._due = self._clock() + LOOK_EVERY

    async def _order(self, session: SequencerSession) -> bool:
        """Whether nothing is left to do."""
        for _ in range(ROUNDS_MAX):
            moved = (await session.sequence(0, ROUND_MAX)).moved
            forgotten = await session.forget(self._keep_seconds, FORGET_MAX)
            if moved < ROUND_MAX and forgotten < FORGET_MAX:
                return True
        return False
