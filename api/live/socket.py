"""The feed over a WebSocket: several subscriptions on one connection, each with a name of the
client's. Frames are JSON objects with a `type`; docs/live.md lists them.

What a reader gets wrong: reading and sending are two tasks. A snapshot is sent by whoever takes it,
before its subscription is in the mailbox; so no change overtakes it.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket

from api.auth import Caller, check_scope, identify
from api.deps import Services
from api.errors import RETRY_AFTER_SECONDS, error_response, first_problem, status_of
from api.live.connection import LiveConnection
from api.live.watching import AGAIN_AFTER, HEARTBEAT, begin, permitted
from tracker.errors import Conflict, InvalidRequest, NotAllowed, TrackerError, TransientError
from tracker.feed.entries import Entry
from tracker.feed.feed import Subscription
from tracker.feed.mailbox import Delivery, Resync, Why
from tracker.models.feed import REQUESTS, SUBSCRIPTIONS_MAX, ChangeFilter, Subscribe, Unsubscribe

FRAMES_KEPT = 8
"""Of one change: most clients give their subscriptions the same few names."""


async def admitted(websocket: WebSocket, services: Services, scope: Any) -> Caller | None:
    """Whoever connects, once it is clear that they may; None after a refusal was sent."""
    try:
        check_origin(websocket, services)
        services.live_connections.check()
        ticket = websocket.query_params.get("ticket")
        caller = await identify(services.authenticator, websocket.headers, ticket)
        check_scope(caller, scope)
        services.live_connections.check()  # Again: others came meanwhile.
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
    if is_foreign(origin, websocket, services):
        raise foreign_page(origin)


def is_foreign(origin: str | None, connection: HTTPConnection, services: Services) -> bool:
    """Whether a request is of a page of a site that is neither ours nor among `allowed_origins`."""
    allowed = services.settings.allowed_origins
    if origin is None or origin in allowed or "*" in allowed:
        return False
    try:
        return urlsplit(origin).netloc != connection.headers.get("host")
    except ValueError:
        return True


def foreign_page(origin: str | None) -> NotAllowed:
    """The refusal of one."""
    return NotAllowed(
        f"pages of {origin} may not connect; FLOWTRAIL_ALLOWED_ORIGINS lists those that may",
        origin=origin,
    )


class Socket(LiveConnection):
    """One connection."""

    def __init__(self, websocket: WebSocket, services: Services, caller: Caller) -> None:
        super().__init__(websocket, services, caller)
        self._named: dict[str, _Named] = {}
        self._names: dict[Subscription, _Named] = {}

    async def handle(self, text: str | bytes) -> None:
        """See `LiveConnection`."""
        name = None
        try:
            request = REQUESTS.validate_json(text)
            name = getattr(request, "id", None)
            if isinstance(request, Subscribe):
                await self._subscribe(request)
            elif isinstance(request, Unsubscribe):
                await self._unsubscribe(request.id)
            else:
                await self.tell({"type": "pong"})
        except ValidationError as error:
            await self.tell(_wrong_frame(error, text))
        except TrackerError as error:
            await self.tell(_failed(error, name))

    async def _subscribe(self, request: Subscribe) -> None:
        if request.id in self._named:
            raise Conflict(f"this connection has a subscription {request.id!r}; unsubscribe first")
        if len(self._named) >= SUBSCRIPTIONS_MAX:
            raise InvalidRequest(f"one connection has {SUBSCRIPTIONS_MAX} subscriptions at most")
        filters = await permitted(self.services, self.caller, request.filters)
        named = _Named(request.id, filters, request.snapshot)
        self._named[request.id] = named
        try:
            await self._start(named, request.after)
        except TrackerError:
            del self._named[request.id]
            raise

    async def _start(self, named: _Named, after: int | None) -> None:
        beginning = await begin(self.services, self.mailbox, named.filters, after, named.runs)
        if beginning.snapshot is None:
            await self.tell({"type": "subscribed", "id": named.name, "seq": after})
        else:
            shown = beginning.snapshot.model_dump_json(exclude_none=True)
            await self.send(named.frame("snapshot", shown))
        if self._named.get(named.name) is not named:  # It was ended meanwhile.
            return
        self._names[beginning.subscription] = named
        named.subscription = beginning.subscription
        self.mailbox.add(beginning.subscription)

    async def _unsubscribe(self, name: str) -> None:
        named = self._named.pop(name, None)
        if named is None:
            raise InvalidRequest(f"this connection has no subscription {name!r}")
        if named.subscription is not None:
            self.mailbox.remove(named.subscription)
            self._names.pop(named.subscription, None)
        await self.tell({"type": "unsubscribed", "id": name})

    async def deliver(self) -> None:
        """See `LiveConnection`."""
        # What is here already is taken without a timer: those cost more than the rest.
        item = self.mailbox.ready() or await self.mailbox.take(HEARTBEAT)
        if isinstance(item, Delivery):
            await self.send(self._names[item.subscription].change(item.entry))
        elif isinstance(item, Resync):
            await self._resync(item)
        elif (reached := self.mailbox.reached) is not None:
            await self.tell({"type": "heartbeat", "seq": reached})

    async def _resync(self, resync: Resync) -> None:
        named = self._names[resync.subscription]
        told = {"type": "resync", "id": named.name, "reason": str(resync.why)}
        await self.tell(told)
        if resync.why is Why.LOST:
            self._names.pop(resync.subscription, None)
            named.subscription = None
            await self._again(named)

    async def _again(self, named: _Named) -> None:
        while self._named.get(named.name) is named:
            try:
                await self._start(named, None)
            except TransientError:
                await asyncio.sleep(AGAIN_AFTER)
            except TrackerError as error:
                del self._named[named.name]
                await self.tell(_failed(error, named.name))
            else:
                return


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
    told = {"type": "error", "error": InvalidRequest.code, "message": first_problem(error)}
    try:
        name = json.loads(text)["id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return told
    return told | {"id": name} if isinstance(name, str) else told
