"""Who calls, and what they may do: API keys with scopes, or JSON Web Tokens, by `X-API-Key` or as a
bearer token.

Each route depends on exactly one `requires(scope)`; a test enumerates them. `admin` may do all, but
a restriction to some runs holds for it too.
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
from pydantic import TypeAdapter
from starlette.datastructures import Headers

from api.rates import RateLimiter
from api.restriction import NONE, Restriction, run_of
from api.tokens import TokenVerifier
from tracker.errors import NotAllowed, NotAuthenticated
from tracker.store import tickets
from tracker.store.database import Database
from tracker.store.keys import PREFIX, SCOPES, ApiKey, Scope, find_by_secret, is_valid

CACHE_SECONDS = 5.0
"""How long a revoked key may go on working in a process that has just seen it."""
CACHE_SIZE = 1000

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever made a request.

    Attributes:
        name: Of the key, or `jwt:` and the token's subject; for the audit.
        scopes: What it may do.
        restriction: With which runs.
        rate: How many times a second; None: any.
        until: When its credential expires; None: never.
        by_key: Whether that is an API key, which may be revoked.
    """

    name: str
    scopes: frozenset[Scope]
    restriction: Restriction = NONE
    rate: float | None = None
    until: datetime | None = None
    by_key: bool = False

    def may(self, scope: Scope) -> bool:
        """Whether the scope, or `admin`, is among its scopes."""
        return scope in self.scopes or "admin" in self.scopes


_CALLER = TypeAdapter(Caller)
ANYBODY = Caller("local", frozenset(SCOPES))
"""Whoever calls an API whose auth is off, which is possible on loopback only."""


class Authenticator:
    """Knows callers by their credential.

    The cache holds digests, not secrets, wrong ones too: guessing must not load the database.

    Args:
        tokens: What reads JSON Web Tokens; None: there are API keys only.
        token_rate: Requests a second of one token's subject; None: any.
    """

    def __init__(
        self,
        database: Database,
        *,
        enabled: bool,
        tokens: TokenVerifier | None = None,
        token_rate: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._enabled = enabled
        self._tokens = tokens
        self._token_rate = token_rate
        self._clock = clock
        self._limiter = RateLimiter(clock)
        self._seen: OrderedDict[bytes, tuple[float, ApiKey | None]] = OrderedDict()

    async def caller(self, credential: str | None) -> Caller:
        """Whose credential this is; the request counts against its rate.

        Raises:
            NotAuthenticated: Nobody's.
            RateLimited: It has made too many requests.
            DatabaseUnavailable, TransientError: That cannot be told now.
        """
        if not self._enabled:
            return ANYBODY
        if not credential:
            raise NotAuthenticated(
                "this call needs an API key, as header X-API-Key or Authorization: Bearer; "
                "`flowtrail keys create` makes one"
            )
        if self._tokens is not None and not credential.startswith(PREFIX):
            caller = await self._by_token(self._tokens, credential)
        else:
            caller = await self._by_key(credential)
        self._limiter.take(caller.name, caller.rate)
        return caller

    async def by_ticket(self, ticket: str) -> Caller:
        """Whom a ticket was issued to; it is used up.

        Raises:
            NotAuthenticated: It is none, was used, or has expired; or whom it was issued to has.
            DatabaseUnavailable: That cannot be told now.
        """
        if not self._enabled:
            return ANYBODY
        facts = await tickets.redeem(self._database, ticket)
        if facts is None:
            raise NotAuthenticated(
                "this ticket is unknown, used or expired: each opens one connection, within "
                f"{tickets.VALID_SECONDS} seconds"
            )
        caller = _CALLER.validate_python(facts)
        if not await self.still_valid(caller):
            raise NotAuthenticated("the API key or token that this ticket was issued to has ended")
        return caller

    async def ticket_for(self, caller: Caller) -> tuple[str, datetime]:
        """A ticket, and when it expires.

        Raises:
            DatabaseUnavailable: None can be issued now.
        """
        return await tickets.issue(self._database, _CALLER.dump_python(caller, mode="json"))

    async def still_valid(self, caller: Caller) -> bool:
        """Whether a caller who has stayed connected may go on.

        Raises:
            DatabaseUnavailable: That cannot be told now.
        """
        if caller.until is not None and caller.until <= datetime.now(UTC):
            return False
        return not caller.by_key or await is_valid(self._database, caller.name)

    @property
    def remembered(self) -> int:
        """Secrets in the cache."""
        return len(self._seen)

    async def _by_token(self, tokens: TokenVerifier, token: str) -> Caller:
        facts = await tokens.verify(token)
        name = f"jwt:{facts.subject}"
        return Caller(
            name, facts.scopes, facts.restriction, self._token_rate, until=facts.expires_at
        )

    async def _by_key(self, secret: str) -> Caller:
        key = await self._known(secret)
        if key is None or (key.expires_at is not None and key.expires_at <= datetime.now(UTC)):
            raise NotAuthenticated("this API key is unknown, expired or revoked")
        restriction = Restriction(key.ref_types, key.workflow_types)
        return Caller(
            key.name, key.scopes, restriction, key.rate, until=key.expires_at, by_key=True
        )

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


def requires(scope: Scope, *, narrows: bool = False, tickets: bool = False) -> Any:
    """`Depends` on what lets only callers with this scope through.

    Args:
        tickets: Whether a ticket, as query parameter, stands in for a credential.
        narrows: The route keeps itself to the runs of `caller.restriction`. Without it a restricted
            caller gets through only where the path names one of its runs.
    """

    async def authorized(request: Request) -> Access[Any]:
        services = request.app.state.services
        authenticator: Authenticator = services.authenticator
        ticket = request.query_params.get("ticket") if tickets else None
        caller = await identify(authenticator, request.headers, ticket)
        check_scope(caller, scope)
        if caller.restriction and not narrows:
            await _check_reached(request, caller, services.database, services.namespace)
        return Access(services, caller)

    _SCOPES[authorized] = scope
    return Depends(authorized)


async def identify(
    authenticator: Authenticator, headers: Headers, ticket: str | None = None
) -> Caller:
    """Whoever sends these headers, or has this ticket.

    Raises:
        TrackerError: As `Authenticator.caller` and `by_ticket`.
    """
    credential = _credential(headers)
    if ticket is not None and credential is None:
        return await authenticator.by_ticket(ticket)
    return await authenticator.caller(credential)


def check_scope(caller: Caller, scope: Scope) -> None:
    """Look whether a caller has a scope.

    Raises:
        NotAllowed: It has not.
    """
    if not caller.may(scope):
        raise NotAllowed(
            f"{caller.name!r} lacks the scope {scope!r}",
            needed=scope,
            scopes=sorted(caller.scopes),
        )


async def _check_reached(
    request: Request, caller: Caller, database: Database, namespace: str
) -> None:
    if "run_id" not in request.path_params:
        raise NotAllowed(
            f"{caller.name!r} is kept to some runs, and this looks across all of them",
            needed="no restriction",
        )
    run_id = run_of(request.path_params)
    if run_id is not None:
        await caller.restriction.check_run(database, namespace, run_id)


def scope_of(call: Callable[..., Any]) -> Scope | None:
    """The scope that a dependency made by `requires` asks for."""
    return _SCOPES.get(call)


def _credential(headers: Headers) -> str | None:
    key = headers.get("x-api-key")
    if key:
        return key
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
