"""Who calls, and what they may do: API keys with scopes, by `X-API-Key` or as a bearer token.

Each route depends on exactly one `requires(scope)`; a test enumerates them. `admin` may do all.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Generic, TypeVar

from fastapi import Depends, Request
from starlette.datastructures import Headers

from tracker.errors import NotAllowed, NotAuthenticated
from tracker.store.database import Database
from tracker.store.keys import SCOPES, ApiKey, Scope, find_by_secret

CACHE_SECONDS = 5.0
"""How long a revoked key may go on working in a process that has just seen it."""
CACHE_SIZE = 1000

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever made a request.

    Attributes:
        name: Of the key, for the audit.
        scopes: What it may do.
    """

    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether the scope, or `admin`, is among its scopes."""
        return scope in self.scopes or "admin" in self.scopes


ANYBODY = Caller("local", frozenset(SCOPES))
"""Whoever calls an API whose auth is off, which is possible on loopback only."""


class Authenticator:
    """Knows callers by their secret.

    The cache holds digests, not secrets, wrong ones too: guessing must not load the database.
    """

    def __init__(
        self, database: Database, *, enabled: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._enabled = enabled
        self._clock = clock
        self._seen: OrderedDict[bytes, tuple[float, ApiKey | None]] = OrderedDict()

    async def caller(self, secret: str | None) -> Caller:
        """Whose secret this is.

        Raises:
            NotAuthenticated: Nobody's.
            DatabaseUnavailable: That cannot be told now.
        """
        if not self._enabled:
            return ANYBODY
        if not secret:
            raise NotAuthenticated(
                "this call needs an API key, as header X-API-Key or Authorization: Bearer; "
                "`flowtrail keys create` makes one"
            )
        key = await self._known(secret)
        if key is None or (key.expires_at is not None and key.expires_at <= datetime.now(UTC)):
            raise NotAuthenticated("this API key is unknown, expired or revoked")
        return Caller(key.name, key.scopes)

    @property
    def remembered(self) -> int:
        """Secrets in the cache."""
        return len(self._seen)

    async def _known(self, secret: str) -> ApiKey | None:
        digest = sha256(secret.encode("utf-8", "surrogateescape")).digest()
        until, key = self._seen.get(digest, (0.0, None))
        if self._clock() < until:
            return key
        key = await find_by_secret(self._database, secret)
        self._seen[digest] = (self._clock() + CACHE_SECONDS, key)
        self._seen.move_to_end(digest)
        if len(self._seen) > CACHE_SIZE:
            self._seen.popitem(last=False)
        return key


SECURITY_SCHEMES = {
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "Bearer": {"type": "http", "scheme": "bearer"},
}
SECURITY: list[dict[str, list[str]]] = [{name: []} for name in SECURITY_SCHEMES]
"""Either of them, for operations of the OpenAPI document."""


@dataclass(frozen=True, slots=True)
class Access(Generic[S]):
    """An authorized call: what it may use, and who makes it."""

    services: S
    caller: Caller


_SCOPES: dict[Callable[..., Any], Scope] = {}


def requires(scope: Scope) -> Any:
    """`Depends` on what lets only callers with this scope through."""

    async def authorized(request: Request) -> Access[Any]:
        services = request.app.state.services
        authenticator: Authenticator = services.authenticator
        caller = await authenticator.caller(_secret(request.headers))
        if not caller.may(scope):
            raise NotAllowed(
                f"API key {caller.name!r} lacks the scope {scope!r}",
                needed=scope,
                scopes=sorted(caller.scopes),
            )
        return Access(services, caller)

    _SCOPES[authorized] = scope
    return Depends(authorized)


def scope_of(call: Callable[..., Any]) -> Scope | None:
    """The scope that a dependency made by `requires` asks for."""
    return _SCOPES.get(call)


def _secret(headers: Headers) -> str | None:
    key = headers.get("x-api-key")
    if key:
        return key
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
