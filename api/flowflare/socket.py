"""Flowflare's socket: the newest runs, then every change as an update, and answers to queries."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.websockets import WebSocket

from api.auth import Caller
from api.deps import Services
from api.flowflare.service import Flowflare
from api.live.connection import LiveConnection
from api.live.watching import AGAIN_AFTER, HEARTBEAT, begin
from tracker.errors import TrackerError, TransientError
from tracker.feed.entries import Entry
from tracker.feed.mailbox import Delivery, Resync, Why
from tracker.models.feed import ChangeFilter


class TrackerSocket(LiveConnection):
    """One connection."""

    def __init__(
        self, websocket: WebSocket, services: Services, caller: Caller, flowflare: Flowflare
    ) -> None:
        super().__init__(websocket, services, caller)
        self._flowflare = flowflare

    async def handle(self, text: str | bytes) -> None:
        """See `LiveConnection`."""
        try:
            request: Any = json.loads(text)
            if not isinstance(request, dict) or request.get("type") != "query":  # pyright: ignore[reportUnknownMemberType]
                raise ValueError("expected an object with type 'query' and params")
            params: Any = request.get("params") or {}  # pyright: ignore[reportUnknownMemberType]
            found = await self._flowflare.query(params, self.caller)
        except (ValueError, RecursionError) as error:
            await self.tell({"type": "error", "error": str(error)})
        except TrackerError as error:
            await self.tell({"type": "error", "error": error.message})
        else:
            await self.tell({"type": "query_result", "data": found})

    async def begin(self) -> None:
        """The newest runs, and from there on; tried until the database is there."""
        while True:
            try:
                beginning = await begin(self.services, self.mailbox, ChangeFilter(), None, 0)
                newest = await self._flowflare.query({}, self.caller)
            except TransientError:
                await asyncio.sleep(AGAIN_AFTER)
            else:
                break
        await self.tell({"type": "initial_data", "data": newest})
        self.mailbox.add(beginning.subscription)

    async def deliver(self) -> None:
        """See `LiveConnection`."""
        item = self.mailbox.ready() or await self.mailbox.take(HEARTBEAT)
        if isinstance(item, Delivery):
            await self.send(await self._frame(item.entry))
        elif isinstance(item, Resync) and item.why is Why.LOST:
            await self.begin()

    async def _frame(self, entry: Entry) -> str:
        """The update; tried until its values can be read, for the change is taken already."""
        while True:
            try:
                return await self._flowflare.updates.frame(entry)
            except TransientError:
                await asyncio.sleep(AGAIN_AFTER)
            except TrackerError as error:
                return json.dumps({"type": "error", "error": error.message})
