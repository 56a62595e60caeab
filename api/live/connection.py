"""One WebSocket, whatever language is spoken on it: read and sent by two tasks, until either side
ends it, the caller may no longer be connected, or the process is to stop."""

from __future__ import annotations

import asyncio
import json
import logging
from abc import ABC, abstractmethod
from typing import Any, NoReturn

from starlette.websockets import WebSocket, WebSocketDisconnect

from api.auth import Caller
from api.deps import Services
from api.live.watching import AGAIN_AFTER, RECHECK_EVERY
from tracker.errors import TransientError
from tracker.feed.mailbox import Mailbox

logger = logging.getLogger(__name__)

GOING_AWAY = 1001
RESTARTING = 1012
NO_LONGER_ALLOWED = 4401
"""Close codes; the last of our own range, after HTTP's 401."""


class LiveConnection(ABC):
    """One connection; a language says what comes in and what goes out."""

    def __init__(self, websocket: WebSocket, services: Services, caller: Caller) -> None:
        self.services = services
        self.caller = caller
        self.mailbox = Mailbox(services.feed)
        self._websocket = websocket

    @abstractmethod
    async def handle(self, text: str | bytes) -> None:
        """Answer a frame; nothing that is wrong with it is raised."""

    @abstractmethod
    async def deliver(self) -> None:
        """Send the next thing that there is to tell.

        Raises:
            TransientError: It cannot be told now, and will be asked for again.
        """

    async def begin(self) -> None:  # noqa: B027 - most begin with nothing
        """What to do once it is open, before anything is delivered."""

    async def tell(self, frame: dict[str, Any]) -> None:
        """Send a frame."""
        await self.send(json.dumps(frame, separators=(",", ":")))

    async def send(self, text: str) -> None:
        """Send a frame that is text already."""
        await self._websocket.send_text(text)

    async def serve(self) -> None:
        """Serve until either side ends it."""
        with self.services.live_connections.one_more():
            await self._websocket.accept()
            try:
                code = await _first_of(self._read(), self._write(), self._expiry(), self._stop())
                await self._websocket.close(code)
            except WebSocketDisconnect:
                pass
            finally:
                self.mailbox.close()

    async def _read(self) -> NoReturn:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or GOING_AWAY)
            await self.handle(message.get("text") or message.get("bytes") or "")

    async def _write(self) -> NoReturn:
        await self.begin()
        while True:
            try:
                await self.deliver()
            except TransientError as error:
                logger.debug("a socket waits: %s", error)
                await asyncio.sleep(AGAIN_AFTER)

    async def _expiry(self) -> int:
        while True:
            await asyncio.sleep(RECHECK_EVERY)
            try:
                if not await self.services.authenticator.still_valid(self.caller):
                    return NO_LONGER_ALLOWED
            except TransientError:
                continue

    async def _stop(self) -> int:
        await self.services.stopping.wait()
        return RESTARTING


async def _first_of(*coroutines: Any) -> int:
    """Run things at once until one of them ends, and return, or raise, what it comes to."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
