"""Flowflare's HTTP routes and its socket, each below `gate.INSIDE`. Every answer is JSON with
`success`, errors included."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

from fastapi import APIRouter, Request, Response, WebSocket
from pydantic import ValidationError
from starlette.requests import HTTPConnection

from api.auth import ANYBODY, Caller, check_scope, identify
from api.deps import Services
from api.errors import RETRY_AFTER_SECONDS, first_problem, status_of
from api.flowflare.gate import INSIDE, ORIGIN
from api.flowflare.service import Flowflare
from api.flowflare.socket import TrackerSocket
from api.live.socket import check_origin, foreign_page, is_foreign
from api.routing import strict_json
from tracker.errors import InvalidRequest, NotAllowed, NotAuthenticated, TrackerError
from tracker.store.keys import Scope

router = APIRouter(prefix=INSIDE, include_in_schema=False)
_METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"]

Call = Callable[[Flowflare, Any, Caller, str], Awaitable[dict[str, Any]]]


async def _start(flowflare: Flowflare, body: Any, caller: Caller, _: str) -> dict[str, Any]:
    return {"success": True, **await flowflare.start(body, caller)}


async def _get(flowflare: Flowflare, body: Any, caller: Caller, _: str) -> dict[str, Any]:
    return {"success": True, "workflow": await flowflare.get(body, caller)}


async def _list(flowflare: Flowflare, body: Any, caller: Caller, _: str) -> dict[str, Any]:
    return {"success": True, "workflows": await flowflare.list_all(body, caller)}


async def _by_ref(flowflare: Flowflare, body: Any, caller: Caller, _: str) -> dict[str, Any]:
    return {"success": True, "workflows": await flowflare.by_ref(body, caller)}


async def _update(flowflare: Flowflare, body: Any, caller: Caller, text: str) -> dict[str, Any]:
    return {"success": True, "result": await flowflare.update(body, caller, text)}


async def _query(flowflare: Flowflare, body: Any, caller: Caller, _: str) -> dict[str, Any]:
    return {"type": "query_result", "data": await flowflare.query(body, caller)}


_SERVICE: dict[str, tuple[Scope, Call]] = {
    "start-workflow": ("start", _start),
    "get-workflow": ("read", _get),
    "list-workflows": ("read", _list),
    "get-workflows-by-ref": ("read", _by_ref),
}
_WORKFLOWS: dict[str, tuple[Scope, Call]] = {
    "update": ("start", _update),
    "query": ("read", _query),
}


@router.api_route("/service/{endpoint:path}", methods=_METHODS)
async def service(request: Request, endpoint: str) -> Response:
    """Calls between services: always with a key."""
    return await _answer(
        request, _SERVICE.get(endpoint), "Unknown service endpoint", open_too=False
    )


@router.api_route("/api/workflows/{endpoint:path}", methods=_METHODS)
async def workflows(request: Request, endpoint: str) -> Response:
    """Reports, and queries of the dashboard."""
    return await _answer(request, _WORKFLOWS.get(endpoint), "Not found", open_too=True)


@router.api_route("/api/tracker-websocket", methods=_METHODS)
async def no_upgrade(request: Request) -> Response:
    """A plain request to the socket."""
    return _json({"success": False, "error": "Expected Upgrade: websocket"}, 426)


@router.websocket("/api/tracker-websocket")
async def socket(websocket: WebSocket) -> None:
    """See `api.flowflare.socket`."""
    services: Services = websocket.app.state.services
    try:
        check_origin(websocket, services)
        services.live_connections.check()
        ticket = websocket.query_params.get("ticket")
        caller = await _caller(websocket, services, "read", open_too=True, ticket=ticket)
        if caller.restriction:
            raise NotAllowed("this socket shows all runs, and the key is kept to some: use /v1/ws")
        services.live_connections.check()  # Again: others came meanwhile.
    except TrackerError as error:
        await websocket.send_denial_response(_failure(error))
        return
    await TrackerSocket(websocket, services, caller, websocket.app.state.flowflare).serve()


async def _answer(
    request: Request, route: tuple[Scope, Call] | None, unknown: str, *, open_too: bool
) -> Response:
    services: Services = request.app.state.services
    try:
        scope: Scope = "read" if route is None else route[0]
        caller = await _caller(request, services, scope, open_too=open_too)
        if route is None or request.method != "POST":
            return _json({"success": False, "error": unknown}, 404)
        text, body = _parsed(await request.body())
        return _json(await route[1](request.app.state.flowflare, body, caller, text), 200)
    except ValidationError as error:
        return _failure(InvalidRequest(first_problem(error)))
    except TrackerError as error:
        return _failure(error)
    except (ValueError, RecursionError) as error:  # What JSON can say and we cannot keep.
        return _failure(InvalidRequest(f"the body cannot be kept: {error}"))


def _parsed(body: bytes) -> tuple[str, Any]:
    try:
        text = body.decode("utf-8", "strict")
        return text, strict_json(text)
    except ValueError as error:
        raise InvalidRequest(f"the body is no JSON: {error}") from error


async def _caller(
    connection: HTTPConnection,
    services: Services,
    scope: Scope,
    *,
    open_too: bool,
    ticket: str | None = None,
) -> Caller:
    # Browsers let any page send what these routes read, and would do so from inside the network.
    origin = connection.scope.get(ORIGIN)
    foreign = is_foreign(origin, connection, services)
    if open_too and not foreign and _is_open(connection, services):
        return ANYBODY
    caller = await identify(services.authenticator, connection.headers, ticket)
    if foreign and caller is ANYBODY:
        raise foreign_page(origin)
    check_scope(caller, scope)
    return caller


def _is_open(connection: HTTPConnection, services: Services) -> bool:
    """Whether this comes from a network that needs no key: what reports and watches there has no
    way to send one."""
    if connection.client is None:
        return False
    if "x-forwarded-for" in connection.headers and connection.client.port:
        return False  # The address is a proxy's that uvicorn does not trust; else it has no port.
    try:
        address = ip_address(connection.client.host)
    except ValueError:
        return False
    return any(address in network for network in services.settings.flowflare_open_networks)


def _failure(error: TrackerError) -> Response:
    if isinstance(error, NotAuthenticated):
        return _json({"success": False, "error": "Unauthorized"}, 401)
    status = int(status_of(error) or 500)
    if status == 422:
        status = 400
    message = (
        error.message if status < 500 or error.error_class == "transient" else "internal error"
    )
    response = _json({"success": False, "error": message}, status)
    if status in (429, 503):
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _json(body: dict[str, Any], status: int) -> Response:
    return Response(json.dumps(body, ensure_ascii=True), status, media_type="application/json")
