"""The feed as server-sent events: a snapshot, then each change under its seq, which browsers send
back as `Last-Event-ID` when they reconnect."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.auth import Caller
from api.deps import Services
from api.live.connections import LiveConnections
from api.live.watching import AGAIN_AFTER, HEARTBEAT, RECHECK_EVERY, begin
from api.waiting import unless
from tracker.errors import TrackerError, TransientError
from tracker.feed.mailbox import Delivery, Mailbox, Resync, Why
from tracker.models.feed import ChangeFilter, Snapshot

logger = logging.getLogger(__name__)

RETRY_MS = 1000
"""What browsers wait before they reconnect."""


class StreamAnswer(StreamingResponse):
    """An answer of events. It counts as a connection from its first moment on, also where nobody
    comes to read it."""

    def __init__(self, events: AsyncGenerator[bytes], connections: LiveConnections) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        with self._connections.one_more():
            await super().__call__(scope, receive, send)


class Stream:
    """What an answer tells.

    Args:
        filters: From `watching.permitted`.
        after: Where it goes on; None: a snapshot first.
        runs: In a snapshot at most.
    """

    def __init__(
        self,
        services: Services,
        caller: Caller,
        filters: ChangeFilter,
        after: int | None,
        runs: int,
    ) -> None:
        self._services = services
        self._caller = caller
        self._filters = filters
        self._after = after
        self._runs = runs
        self._mailbox = Mailbox(services.feed)
        self._checked_at = time.monotonic()
        self._lost = False

    async def open(self) -> str:
        """Begin, while failure can still be answered as such; returns the first events.

        Raises:
            TrackerError: The snapshot cannot be taken.
        """
        return f"retry: {RETRY_MS}\n\n" + await self._begin(self._after)

    async def events(self, first: str) -> AsyncGenerator[bytes]:
        """Everything, until the caller goes, is no longer allowed, or the process stops."""
        try:
            yield first.encode()
            while await self._goes_on():
                yield (await self._next()).encode()
        except TrackerError as error:
            logger.debug("a stream ended: %s", error)
        finally:
            self._mailbox.close()

    async def _goes_on(self) -> bool:
        if self._services.stopping.is_set():
            return False
        now = time.monotonic()
        if now - self._checked_at < RECHECK_EVERY:
            return True
        self._checked_at = now
        try:
            return await self._services.authenticator.still_valid(self._caller)
        except TransientError:
            return True

    async def _next(self) -> str:
        try:
            if self._lost:
                return await self._begin(None)
            item = await unless(self._services.stopping, self._mailbox.take(HEARTBEAT))
            if isinstance(item, Delivery):
                return _event("change", item.entry.seq, item.entry.text)
            if isinstance(item, Resync):
                self._lost = item.why is Why.LOST
                return f'event: resync\ndata: {{"reason":"{item.why}"}}\n\n'
        except TransientError:
            await asyncio.sleep(AGAIN_AFTER)
            return ": the database is away\n\n"
        reached = self._mailbox.reached
        # An id without data: browsers keep it and dispatch nothing.
        return ": nothing new\n\n" if reached is None else f"id: {reached}\n\n"

    async def _begin(self, after: int | None) -> str:
        beginning = await begin(self._services, self._mailbox, self._filters, after, self._runs)
        self._mailbox.add(beginning.subscription)
        self._lost = False
        return "" if beginning.snapshot is None else _snapshot(beginning.snapshot)


def _snapshot(snapshot: Snapshot) -> str:
    return _event("snapshot", snapshot.seq, snapshot.model_dump_json(exclude_none=True))


def _event(name: str, seq: int, data: str) -> str:
    return f"id: {seq}\nevent: {name}\ndata: {data}\n\n"
