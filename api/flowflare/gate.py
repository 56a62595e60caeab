"""Finds Flowflare's requests among the others, below whatever prefix, before anything else sees
them: a key in the path must not reach a log, and browsers' preflights ask no questions of ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection, MutableMapping
from typing import Any
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH = re.compile(
    r"(?P<prefix>(?:/[^/]+)*?)(?:/k/(?P<key>[^/]+))?"
    # The original's helper puts its path behind a base URL that may end in a slash.
    r"/+(?P<path>service/[^/]*|api/workflows/[^/]*|api/tracker-websocket)/*\Z"
)
KEY = re.compile(r"/k/[^/]+")
INSIDE = "/flowflare"
"""Where the application serves them, whatever the prefix was outside."""
ORIGIN = "flowflare.origin"
"""In the scope of a request: its header `Origin`."""

_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization, X-API-Key",
    "Access-Control-Max-Age": "86400",
}


class FlowflareGate:
    """Sends Flowflare's requests to where they are served, and answers preflights.

    Args:
        origins: That may call; empty: any, as the original has it.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = tuple(origins) or ("*",)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        if _is_native(scope["path"]):
            await self._app(scope, receive, send)
            return
        found = PATH.match(scope["path"])
        if found is None:
            await self._app(_without_key(scope), receive, send)
            return
        headers = Headers(scope=scope)
        cors = _ALLOWED | {"Access-Control-Allow-Origin": self._origin(headers.get("origin"))}
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            await _answer(send, 204, cors)
            return

        async def with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(cors)
            await send(message)

        await self._app(_rewritten(scope, found["path"], found["key"]), receive, with_cors)

    def _origin(self, origin: str | None) -> str:
        if origin is not None and ("*" in self._origins or origin in self._origins):
            return origin
        return self._origins[0]


def _is_native(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def _without_key(scope: Scope) -> Scope:
    """A mistyped path, which nothing is served at, may hold a key all the same."""
    path, found = KEY.subn("/k/…", scope["path"])
    return {**scope, "path": path, "raw_path": quote(path).encode()} if found else scope


def _rewritten(scope: Scope, path: str, key: str | None) -> Scope:
    # Without its origin: the CORS of our own API has nothing to say here.
    dropped = (b"origin",) if scope["type"] == "http" else ()
    origin = Headers(scope=scope).get("origin")
    headers = [(name, value) for name, value in scope["headers"] if name not in dropped]
    if key is not None and not any(name == b"x-api-key" and value for name, value in headers):
        headers = [(name, value) for name, value in headers if name != b"x-api-key"]
        headers.append((b"x-api-key", key.encode("latin-1", "replace")))
    inside = f"{INSIDE}/{path}"
    return {
        **scope,
        "path": inside,
        "raw_path": quote(inside).encode(),
        "headers": headers,
        ORIGIN: origin,
    }


async def _answer(send: Send, status: int, headers: MutableMapping[str, Any]) -> None:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": b""})
