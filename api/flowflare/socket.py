"""Flowflare's socket: the newest runs, then every change as an update, and answers to queries."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from api.auth import Caller
from api.deps import Services
from api.flowflare.service import Flowflare
from api.live.socket import GOING_AWAY, expiry, run_until_first, stop
from api.live.watching import HEARTBEAT, begin
from tracker.errors import TrackerError, TransientError
from tracker.feed.mailbox import Delivery, Mailbox, Resync, Why
from tracker.models.feed import ChangeFilter

logger = logging.getLogger(__name__)


class TrackerSocket:
    """One connection."""

    def __init__(
        self, websocket: WebSocket, services: Services, caller: Caller, flowflare: Flowflare
    ) -> None:
        self._websocket = websocket
        self._services = services
        self._caller = caller
        self._flowflare = flowflare
        self._mailbox = Mailbox(services.feed)

    async def serve(self) -> None:
        """Serve until either side ends it."""
        with self._services.live_connections.one_more():
            await self._websocket.accept()
            try:
                code = await run_until_first(
                    self._read(),
                    self._send(),
                    expiry(self._services, self._caller),
                    stop(self._services),
                )
                await self._websocket.close(code)
            except WebSocketDisconnect:
                pass
            finally:
                self._mailbox.close()

    async def _read(self) -> int:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or GOING_AWAY)
            await self._handle(message.get("text") or message.get("bytes") or "")

    async def _handle(self, text: str | bytes) -> None:
        try:
            request: Any = json.loads(text)
            if not isinstance(request, dict) or request.get("type") != "query":  # pyright: ignore[reportUnknownMemberType]
                raise ValueError("expected an object with type 'query' and params")
            params: Any = request.get("params") or {}  # pyright: ignore[reportUnknownMemberType]
            found = await self._flowflare.query(params, self._caller)
        except (ValueError, RecursionError) as error:
            await self._tell({"type": "error", "error": str(error)})
        except TrackerError as error:
            await self._tell({"type": "error", "error": error.message})
        else:
            await self._tell({"type": "query_result", "data": found})

    async def _send(self) -> int:
        await self._begin()
        while True:
            try:
                item = await self._mailbox.take(HEARTBEAT)
                if isinstance(item, Delivery):
                    await self._websocket.send_text(await self._flowflare.updates.frame(item.entry))
                elif isinstance(item, Resync) and item.why is Why.LOST:
                    await self._begin()
            except TransientError as error:
                logger.debug("a socket waits: %s", error)
                await asyncio.sleep(0.5)

    async def _begin(self) -> None:
        """The newest runs, and from there on; tried until the database is there."""
        while True:
            try:
                beginning = await begin(self._services, self._mailbox, ChangeFilter(), None, 0)
                newest = await self._flowflare.query({}, self._caller)
            except TransientError:
                await asyncio.sleep(0.5)
            else:
                break
        await self._tell({"type": "initial_data", "data": newest})
        self._mailbox.add(beginning.subscription)

    async def _tell(self, frame: dict[str, Any]) -> None:
        await self._websocket.send_text(json.dumps(frame, separators=(",", ":")))
