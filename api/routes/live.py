"""The live feed: pages of changes, a stream of server-sent events, a WebSocket, and tickets."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, WebSocket
from fastapi.responses import StreamingResponse

from api.deps import ReadingSome, Services, Streaming
from api.errors import READS, declared
from api.live.socket import Socket, admitted
from api.live.stream import Stream, StreamAnswer
from api.live.watching import permitted
from api.parameters import documented, from_query
from api.routing import Route
from api.waiting import unless
from tracker.errors import ChangesGone, NotFound, TransientError
from tracker.feed.entries import Entry, Interest
from tracker.feed.feed import Slice, Subscription
from tracker.feed.mailbox import Delivery, Mailbox
from tracker.models.feed import ChangePage, ChangesAfter, StreamFrom, Ticket
from tracker.store.changes import change_read, feed_position

router = APIRouter(prefix="/v1", tags=["live"], route_class=Route)
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@router.get(
    "/changes",
    operation_id="changes",
    summary="What changed after a place in the feed, oldest first",
    responses=declared(NotFound, ChangesGone, *READS),
    openapi_extra=documented(ChangesAfter),
)
async def changes(
    access: ReadingSome, asked: Annotated[ChangesAfter, from_query(ChangesAfter)]
) -> ChangePage:
    """Go on with `after` = `last_seq` of the answer. With `wait`, an answer that would be empty
    comes as soon as something changed. 410 `changes_gone`: changes after this place are no longer
    kept; read the runs anew, and go on after `last_seq` of its details."""
    services = access.services
    filters = await permitted(services, access.caller, asked)
    interest = Interest(services.namespace, filters)
    deadline = time.monotonic() + asked.wait
    slice_ = await _slice(services, interest, asked, deadline)
    if slice_.lost:
        await _gone(services)
    if slice_.entries or not asked.wait or not slice_.newest:
        return _page(slice_)
    return await _later(services, interest, slice_.through, deadline - time.monotonic(), asked)


@router.get(
    "/stream",
    operation_id="watch",
    summary="What changes, as server-sent events",
    response_class=StreamingResponse,
    responses=_EVENTS | declared(NotFound, TransientError, *READS),
    openapi_extra=documented(StreamFrom),
)
async def watch(
    access: Streaming,
    asked: Annotated[StreamFrom, from_query(StreamFrom)],
    last_event_id: Annotated[
        str | None, Header(description="As `after`; browsers send it when they reconnect.")
    ] = None,
) -> StreamingResponse:
    """An event `snapshot` with the newest runs that pass, then an event `change` for each change;
    every event's id is its place in the feed. `resync`: changes were missed and a snapshot follows
    (`lost`), or they follow from where this connection was (`slow`)."""
    services = access.services
    services.live_connections.check()
    filters = await permitted(services, access.caller, asked)
    after = asked.after
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        after = int(last_event_id[:19])
    events = Stream(services, access.caller, filters, after, asked.snapshot)
    first = await events.open()
    services.live_connections.check()  # Again: others came meanwhile.
    return StreamAnswer(events.events(first), services.live_connections)


@router.post(
    "/tickets",
    operation_id="ticket",
    summary="A ticket for one live connection",
    status_code=201,
    responses=declared(*READS),
)
async def ticket(access: ReadingSome) -> Ticket:
    """For browsers, whose EventSource and WebSocket send no headers: give it as query parameter
    `ticket` of `/v1/stream` or `/v1/ws`, once, within a minute."""
    secret, expires_at = await access.services.authenticator.ticket_for(access.caller)
    return Ticket(ticket=secret, expires_at=expires_at)


@router.websocket("/ws")
async def socket(websocket: WebSocket) -> None:
    """See `api.live.socket`."""
    services: Services = websocket.app.state.services
    caller = await admitted(websocket, services, "read")
    if caller is not None:
        await Socket(websocket, services, caller).serve()


async def _slice(
    services: Services, interest: Interest, asked: ChangesAfter, deadline: float
) -> Slice:
    """The next changes, as far as they are found in time. What is forgotten while all that are kept
    are read, is none of them."""
    while True:
        after = asked.after or (await feed_position(services.database)).kept_after
        slice_ = await services.feed.read(interest, after, asked.limit)
        while not slice_.lost and not slice_.entries and not slice_.newest:
            slice_ = await services.feed.read(interest, slice_.through, asked.limit)
            if time.monotonic() > deadline:
                break
        if asked.after or not slice_.lost:
            return slice_


async def _gone(services: Services) -> None:
    position = await feed_position(services.database)
    raise ChangesGone(
        "changes after this place are no longer kept, or it is no place of this feed; read the "
        f"runs anew and go on with after={position.last_seq}",
        kept_after=position.kept_after,
        last_seq=position.last_seq,
    )


def _page(slice_: Slice) -> ChangePage:
    return ChangePage(
        changes=[change_read(entry.row) for entry in slice_.entries],
        last_seq=slice_.through,
        more=not slice_.newest,
    )


async def _later(
    services: Services, interest: Interest, after: int, seconds: float, asked: ChangesAfter
) -> ChangePage:
    """The first wanted change that comes, and what is there with it."""
    services.live_connections.check()
    mailbox = Mailbox(services.feed)
    mailbox.add(Subscription(interest, after, mailbox))
    found: list[Entry] = []
    try:
        with services.live_connections.one_more():
            item = await unless(services.stopping, mailbox.take(max(seconds, 0)))
            while isinstance(item, Delivery):
                found.append(item.entry)
                if len(found) == asked.limit:
                    break
                item = mailbox.ready()
    finally:
        mailbox.close()
    last = found[-1].seq if found else after
    return ChangePage(changes=[change_read(entry.row) for entry in found], last_seq=last)
