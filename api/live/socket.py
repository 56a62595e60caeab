"""The feed over a WebSocket: several subscriptions on one connection, each with a name of the
client's. Frames are JSON objects with a `type`; docs/live.md lists them.

What a reader gets wrong: reading and sending are two tasks. A snapshot is sent by whoever takes it,
before its subscription is in the mailbox; so no change overtakes it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.auth import Caller, check_scope, identify
from api.deps import Services
from api.errors import RETRY_AFTER_SECONDS, error_response, status_of
from api.live.watching import HEARTBEAT, RECHECK_EVERY, begin, permitted
from tracker.errors import Conflict, InvalidRequest, NotAllowed, TrackerError, TransientError
from tracker.feed.entries import Entry
from tracker.feed.feed import Subscription
from tracker.feed.mailbox import Delivery, Mailbox, Resync, Why
from tracker.models.feed import REQUESTS, SUBSCRIPTIONS_MAX, ChangeFilter, Subscribe, Unsubscribe

logger = logging.getLogger(__name__)

FRAMES_KEPT = 8
"""Of one change: most clients give their subscriptions the same few names."""
GOING_AWAY = 1001
INTERNAL_ERROR = 1011
RESTARTING = 1012
NO_LONGER_ALLOWED = 4401
"""Close codes; the last of our own range, after HTTP's 401."""


async def admitted(websocket: WebSocket, services: Services, scope: Any) -> Caller | None:
    """Whoever connects, once it is clear that they may; None after a refusal was sent."""
    try:
        check_origin(websocket, services)
        services.live_connections.check()
        ticket = websocket.query_params.get("ticket")
        caller = await identify(services.authenticator, websocket.headers, ticket)
        check_scope(caller, scope)
    except TrackerError as error:
        await refuse(websocket, error)
        return None
    return caller


async def refuse(websocket: WebSocket, error: TrackerError) -> None:
    """Answer the request to connect as any other request that fails."""
    status = status_of(error) or 500
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else {}
    details = {name: value for name, value in error.details.items() if name != "cause"}
    await websocket.send_denial_response(
        error_response(status, error.code, error.message, error.error_class, details, headers)
    )


def check_origin(websocket: WebSocket, services: Services) -> None:
    """Browsers let any page open a socket anywhere, so the server must look where a page is from.

    Raises:
        NotAllowed: From a site that is neither ours nor among `allowed_origins`.
    """
    origin = websocket.headers.get("origin")
    allowed = services.settings.allowed_origins
    if origin is None or origin in allowed or "*" in allowed:
        return
    if urlsplit(origin).netloc != websocket.headers.get("host"):
        raise NotAllowed(
            f"pages of {origin} may not connect; FLOWTRAIL_ALLOWED_ORIGINS lists those that may",
            origin=origin,
        )


async def run_until_first(*coroutines: Any) -> Any:
    """Run things at once until one of them ends, and return, or raise, what it comes to."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(iter(done)).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def expiry(services: Services, caller: Caller) -> int:
    """Waits until the caller may no longer be connected; returns the close code."""
    while True:
        await asyncio.sleep(RECHECK_EVERY)
        try:
            if not await services.authenticator.still_valid(caller):
                return NO_LONGER_ALLOWED
        except TransientError:
            continue


async def stop(services: Services) -> int:
    """Waits until the process is to stop; returns the close code."""
    await services.stopping.wait()
    return RESTARTING


class Socket:
    """One connection."""

    def __init__(self, websocket: WebSocket, services: Services, caller: Caller) -> None:
        self._websocket = websocket
        self._services = services
        self._caller = caller
        self._mailbox = Mailbox(services.feed)
        self._named: dict[str, _Named] = {}
        self._names: dict[Subscription, _Named] = {}

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
        name = None
        try:
            request = REQUESTS.validate_json(text)
            name = getattr(request, "id", None)
            if isinstance(request, Subscribe):
                await self._subscribe(request)
            elif isinstance(request, Unsubscribe):
                await self._unsubscribe(request.id)
            else:
                await self._tell({"type": "pong"})
        except ValidationError as error:
            await self._tell(_wrong_frame(error, text))
        except TrackerError as error:
            await self._tell(_failed(error, name))

    async def _subscribe(self, request: Subscribe) -> None:
        if request.id in self._named:
            raise Conflict(f"this connection has a subscription {request.id!r}; unsubscribe first")
        if len(self._named) >= SUBSCRIPTIONS_MAX:
            raise InvalidRequest(f"one connection has {SUBSCRIPTIONS_MAX} subscriptions at most")
        filters = await permitted(self._services, self._caller, request.filters)
        named = _Named(request.id, filters, request.snapshot)
        self._named[request.id] = named
        try:
            await self._begin(named, request.after)
        except TrackerError:
            del self._named[request.id]
            raise

    async def _begin(self, named: _Named, after: int | None) -> None:
        beginning = await begin(self._services, self._mailbox, named.filters, after, named.runs)
        if beginning.snapshot is None:
            await self._tell({"type": "subscribed", "id": named.name, "seq": after})
        else:
            shown = beginning.snapshot.model_dump_json(exclude_none=True)
            await self._websocket.send_text(named.frame("snapshot", shown))
        self._names[beginning.subscription] = named
        named.subscription = beginning.subscription
        self._mailbox.add(beginning.subscription)

    async def _unsubscribe(self, name: str) -> None:
        named = self._named.pop(name, None)
        if named is None:
            raise InvalidRequest(f"this connection has no subscription {name!r}")
        if named.subscription is not None:
            self._mailbox.remove(named.subscription)
            self._names.pop(named.subscription, None)
        await self._tell({"type": "unsubscribed", "id": name})

    async def _send(self) -> int:
        while True:
            try:
                # What is here already is taken without a timer: those cost more than the rest.
                item = self._mailbox.ready() or await self._mailbox.take(HEARTBEAT)
                if isinstance(item, Delivery):
                    named = self._names[item.subscription]
                    await self._websocket.send_text(named.change(item.entry))
                elif isinstance(item, Resync):
                    await self._resync(item)
                elif (reached := self._mailbox.reached) is not None:
                    await self._tell({"type": "heartbeat", "seq": reached})
            except TransientError as error:
                logger.debug("a socket waits: %s", error)
                await asyncio.sleep(0.5)

    async def _resync(self, resync: Resync) -> None:
        named = self._names[resync.subscription]
        told = {"type": "resync", "id": named.name, "reason": str(resync.why)}
        await self._tell(told)
        if resync.why is Why.LOST:
            del self._names[resync.subscription]
            named.subscription = None
            await self._again(named)

    async def _again(self, named: _Named) -> None:
        while self._named.get(named.name) is named:
            try:
                await self._begin(named, None)
            except TransientError:
                await asyncio.sleep(0.5)
            except TrackerError as error:
                del self._named[named.name]
                await self._tell(_failed(error, named.name))
            else:
                return

    async def _tell(self, frame: dict[str, Any]) -> None:
        await self._websocket.send_text(json.dumps(frame, separators=(",", ":")))


class _Named:
    """A subscription by the client's name for it."""

    def __init__(self, name: str, filters: ChangeFilter, runs: int) -> None:
        self.name = name
        self.filters = filters
        self.runs = runs
        self.subscription: Subscription | None = None
        self._id = json.dumps(name)

    def change(self, entry: Entry) -> str:
        """The frame of a change; the same for all who gave this name."""
        frame = entry.frames.get(self._id)
        if frame is None:
            frame = self.frame("change", entry.text)
            if len(entry.frames) < FRAMES_KEPT:
                entry.frames[self._id] = frame
        return frame

    def frame(self, kind: str, text: str) -> str:
        """A frame around a text that is JSON already."""
        return f'{{"type":"{kind}","id":{self._id},"{kind}":{text}}}'


def _failed(error: TrackerError, name: str | None) -> dict[str, Any]:
    details = {key: str(value) for key, value in error.details.items() if key != "cause"}
    told = {"type": "error", "error": error.code, "message": error.message, "details": details}
    return told if name is None else told | {"id": name}


def _wrong_frame(error: ValidationError, text: str | bytes) -> dict[str, Any]:
    """What is wrong with a frame, and the id in it, if it can be made out."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    told = {
        "type": "error",
        "error": InvalidRequest.code,
        "message": f"{field}: {message}" if field else message,
    }
    try:
        name = json.loads(text)["id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return told
    return told | {"id": name} if isinstance(name, str) else told
