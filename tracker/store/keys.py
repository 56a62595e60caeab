"""API keys: made, listed, rotated, revoked, and found by their secret.

A secret is shown once, when it is made; the table holds its SHA-256. It needs no slow hash: 256
random bits cannot be guessed, nor can a caller steer the hash, so looking it up by index gives
nothing away through timing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Literal, LiteralString, get_args
from uuid import UUID

from psycopg import errors as pg
from pydantic import BaseModel, ConfigDict

from tracker.core.ids import new_id
from tracker.errors import Conflict, InvalidRequest, NotFound
from tracker.store.database import AsyncConnection, Database
from tracker.store.queries import load

Scope = Literal["read", "start", "control", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
PREFIX = "ft_"
"""Begins every secret, so that scanners for leaked secrets can know it."""
NAME_MAX = 100
TYPES_MAX = 20
"""Ref types, and workflow types, that a key is restricted to at most."""
RATE_MAX = 100_000
GRACE_MAX = timedelta(days=30)
"""How long the secret before a rotation goes on working at most."""


class ApiKey(BaseModel):
    """A key without its secret.

    Attributes:
        ref_types: Its runs carry a ref of these; None: any run.
        workflow_types: Its runs are of these; None: any run.
        rate: Requests a second; None: as many as come.
        previous_until: Until when the secret before the last rotation works; None: it does not.
    """

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    ref_types: frozenset[str] | None = None
    workflow_types: frozenset[str] | None = None
    rate: float | None = None
    previous_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Restriction:
    """What a key is kept to; nothing of it given: nothing.

    Attributes:
        ref_types: Runs that carry a ref of one of these; none given: whatever they carry.
        workflow_types: Runs of these types; none given: of any.
        rate: Requests a second, per API process.
    """

    ref_types: Iterable[str] = ()
    workflow_types: Iterable[str] = ()
    rate: float | None = None


UNRESTRICTED = Restriction()


async def create(
    database: Database,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
    restriction: Restriction = UNRESTRICTED,
) -> tuple[UUID, str]:
    """Make a key.

    Args:
        name: Unique among all keys ever made, revoked ones included, so that the audit stays clear.
        scopes: Of `SCOPES`, at least one.
        expires_at: Aware; None: never.
        restriction: What it is kept to.

    Returns:
        The key's id and its secret: `ft_` and 43 characters of A-Z, a-z, 0-9, `-`, `_`.

    Raises:
        Conflict: The name is taken.
        InvalidRequest: A scope is unknown, the name is empty or too long, or a part of the
            restriction is out of range.
    """
    key_id, secret = new_id(), _new_secret()
    row = {
        "id": key_id,
        "name": _checked_name(name),
        "secret_hash": _digest(secret),
        "scopes": _checked_scopes(scopes),
        "expires_at": expires_at,
        "ref_types": _checked_types("ref_types", restriction.ref_types),
        "workflow_types": _checked_types("workflow_types", restriction.workflow_types),
        "rate": _checked_rate(restriction.rate),
    }
    async with database.connection() as connection:
        try:
            await connection.execute(_sql(database, "create"), row)
        except pg.UniqueViolation as error:
            raise Conflict(
                f"an API key named {name!r} exists or existed; choose another name", field="name"
            ) from error
    return key_id, secret


async def find_by_secret(database: Database, secret: str) -> ApiKey | None:
    """The key with this secret, if it is neither revoked nor expired. Found by the secret before a
    rotation, it expires when that does."""
    async with database.connection() as connection:
        row = await _one(connection, database, "find_by_secret", {"secret_hash": _digest(secret)})
    return None if row is None else ApiKey.model_validate(row)


async def is_valid(database: Database, name: str) -> bool:
    """Whether the key of this name still opens anything."""
    async with database.connection() as connection:
        row = await _one(connection, database, "find_valid_by_name", {"name": name})
    return row is not None


async def list_keys(database: Database) -> list[ApiKey]:
    """All keys ever made, oldest first."""
    async with database.connection() as connection:
        cursor = await connection.execute(_sql(database, "list_keys"))
        return [ApiKey.model_validate(row) for row in await cursor.fetchall()]


async def rotate(
    database: Database,
    name: str,
    grace: timedelta = timedelta(0),
    expires_at: datetime | None = None,
) -> str:
    """Give a key another secret; the one that it had goes on working for a while.

    Name, scopes and restriction stay, so callers change the secret and nothing else. Rotated again
    within the grace, the oldest secret ends at once.

    Args:
        grace: How long the present secret goes on working, 0 to `GRACE_MAX`.
        expires_at: When the key expires from now on; None: as before.

    Returns:
        The new secret.

    Raises:
        Conflict: It is revoked.
        InvalidRequest: The grace is out of range, or the key has expired and is given no new time.
        NotFound: No key has this name.
    """
    if not timedelta(0) <= grace <= GRACE_MAX:
        raise InvalidRequest(
            f"expected the grace to be 0-{GRACE_MAX.days} days, got {grace}", field="grace"
        )
    secret = _new_secret()
    parameters = {
        "name": name,
        "secret_hash": _digest(secret),
        "grace": grace,
        "expires_at": expires_at,
    }
    async with database.connection() as connection:
        if await _one(connection, database, "rotate", parameters) is None:
            found = await _one(connection, database, "find_by_name", {"name": name})
            raise _not_rotated(name, None if found is None else ApiKey.model_validate(found))
    return secret


async def revoke(database: Database, name: str) -> ApiKey:
    """End a key for good; safe to repeat. A process that has seen the key may accept it until its
    cache forgets it.

    Raises:
        NotFound: No key has this name.
    """
    async with database.connection() as connection:
        row = await _one(connection, database, "revoke", {"name": name})
    if row is None:
        raise _unknown(name)
    return ApiKey.model_validate(row)


def _not_rotated(name: str, key: ApiKey | None) -> InvalidRequest:
    if key is None:
        return _unknown(name)
    if key.revoked_at is not None:
        return Conflict(f"API key {name!r} is revoked; make another with `flowtrail keys create`")
    return InvalidRequest(
        f"API key {name!r} expired at {key.expires_at}; rotate it with a new time (--days)",
        field="expires_at",
    )


def _unknown(name: str) -> NotFound:
    return NotFound(f"no API key is named {name!r}; `flowtrail keys list` shows them")


def _checked_name(name: str) -> str:
    if not 0 < len(name) <= NAME_MAX or not name.isprintable():
        raise InvalidRequest(
            f"expected the name to be 1-{NAME_MAX} printable characters, got {name!r}", field="name"
        )
    return name


def _checked_scopes(scopes: Iterable[str]) -> list[str]:
    given = set(scopes)
    if not given or not given <= set(SCOPES):
        raise InvalidRequest(
            f"expected scopes to be some of {', '.join(SCOPES)}, "
            f"got {', '.join(sorted(given)) or 'none'}",
            field="scopes",
        )
    return [scope for scope in SCOPES if scope in given]


def _checked_types(field: str, types: Iterable[str]) -> list[str] | None:
    given = sorted(set(types))
    if len(given) > TYPES_MAX or any(not 0 < len(name) <= 255 for name in given):
        raise InvalidRequest(
            f"expected at most {TYPES_MAX} {field} of 1-255 characters, got {len(given)}",
            field=field,
        )
    return given or None


def _checked_rate(rate: float | None) -> float | None:
    if rate is not None and not 0 < rate <= RATE_MAX:
        raise InvalidRequest(
            f"expected rate to be more than 0 and at most {RATE_MAX} requests a second, got {rate}",
            field="rate",
        )
    return rate


def _new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


async def _one(
    connection: AsyncConnection, database: Database, statement: str, parameters: dict[str, Any]
) -> dict[str, Any] | None:
    cursor = await connection.execute(_sql(database, statement), parameters, prepare=True)
    return await cursor.fetchone()


def _sql(database: Database, statement: str) -> LiteralString:
    return database.sql(load("keys")[statement])
