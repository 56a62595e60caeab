"""What surrounds every request, as pure ASGI: its id, its log line, its metrics, its size limit,
and the answer to an exception that nobody expected."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import error_response
from api.metrics import Metrics
from tracker.core.ids import new_id
from tracker.errors import PayloadTooLarge

logger = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}\Z")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that are asked every few seconds: logged only when they fail."""


class RequestContext:
    """Gives a request its id, and answers, counts and logs it whatever happens inside.

    An id that the caller sent as `X-Request-Id` is kept, if it is printable ASCII of at most 128
    characters; the answer carries it in any case.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(_request_id(scope), send)
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=answer.request_id):
            try:
                await self._app(scope, receive, answer.send)
            except Exception:
                logger.exception("unexpected error", extra={"event": "request.crashed"})
                await answer.apologize(scope, receive)
            finally:
                self._record(scope, answer.status, time.perf_counter() - started)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A connection that lasts: logged when it ends, for it is known then how long it took."""
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=_request_id(scope)):
            try:
                await self._app(scope, receive, send)
            except Exception:
                logger.exception("unexpected error", extra={"event": "socket.crashed"})
                raise
            finally:
                logger.info(
                    "WebSocket %s ended",
                    scope["path"],
                    extra={"event": "socket", "seconds": round(time.perf_counter() - started, 3)},
                )

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = _template(scope)
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.observe(method, route, status, seconds)
        if route in _QUIET and status < 400:
            return
        logger.info(
            "%s %s %d",
            method,
            scope["path"],
            status,
            extra={"event": "request", "route": route, "ms": round(seconds * 1000, 2)},
        )


class BodyLimit:
    """Refuses bodies that are longer than the limit, also those of unannounced length, as soon as
    that is known."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > self._limit:
            code, message = PayloadTooLarge.code, self._message
            response = error_response(413, code, message, "invalid", {"limit": self._limit})
            await response(scope, receive, send)
            return
        await self._app(scope, self._counting(receive), send)

    def _counting(self, receive: Receive) -> Receive:
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._limit:
                # FastAPI lets this one through where it turns others into "cannot parse".
                raise HTTPException(413, self._message)
            return message

        return counted

    @property
    def _message(self) -> str:
        return f"the body is larger than {self._limit} bytes; keep large values elsewhere"


class _Answer:
    """What has been sent so far, and the means to send more."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.request_id = request_id
        self.status = 500
        self._begun = False
        self._send = send

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Request-Id"] = self.request_id
        await self._send(message)

    async def apologize(self, scope: Scope, receive: Receive) -> None:
        if self._begun:
            return
        response = error_response(
            500,
            "internal_error",
            f"something unexpected went wrong; the log has more under request {self.request_id}",
            "fatal",
            {"request_id": self.request_id},
        )
        await response(scope, receive, self.send)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if _REQUEST_ID.match(given) else new_id().hex


def _template(scope: Scope) -> str:
    route = scope.get("route")
    return getattr(route, "path_format", None) or getattr(route, "path", "unmatched")
