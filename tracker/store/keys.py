"""API keys: made, listed, revoked, and found by their secret.

A secret is shown once, when it is made; the table holds its SHA-256. It needs no slow hash: 256
random bits cannot be guessed, nor can a caller steer the hash, so looking it up by index gives
nothing away through timing.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime
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


class ApiKey(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    scopes: frozenset[Scope]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


async def create(
    database: Database,
    name: str,
    scopes: Iterable[str],
    expires_at: datetime | None = None,
) -> tuple[UUID, str]:
    """Make a key.

    Args:
        name: Unique among all keys ever made, revoked ones included, so that the audit stays clear.
        scopes: Of `SCOPES`, at least one.
        expires_at: Aware; None: never.

    Returns:
        The key's id and its secret: `ft_` and 43 characters of A-Z, a-z, 0-9, `-`, `_`.

    Raises:
        Conflict: The name is taken.
        InvalidRequest: A scope is unknown, or the name is empty or too long.
    """
    key_id, secret = new_id(), PREFIX + secrets.token_urlsafe(32)
    row = {
        "id": key_id,
        "name": _checked_name(name),
        "secret_hash": _digest(secret),
        "scopes": _checked_scopes(scopes),
        "expires_at": expires_at,
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
    """The key with this secret, if it is neither revoked nor expired."""
    async with database.connection() as connection:
        row = await _one(connection, database, "find_by_secret", {"secret_hash": _digest(secret)})
    return None if row is None else ApiKey.model_validate(row)


async def list_keys(database: Database) -> list[ApiKey]:
    """All keys ever made, oldest first."""
    async with database.connection() as connection:
        cursor = await connection.execute(_sql(database, "list_keys"))
        return [ApiKey.model_validate(row) for row in await cursor.fetchall()]


async def revoke(database: Database, name: str) -> ApiKey:
    """End a key for good; safe to repeat. A process that has seen the key may accept it until its
    cache forgets it.

    Raises:
        NotFound: No key has this name.
    """
    async with database.connection() as connection:
        row = await _one(connection, database, "revoke", {"name": name})
    if row is None:
        raise NotFound(f"no API key is named {name!r}; `flowtrail keys list` shows them")
    return ApiKey.model_validate(row)


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


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


async def _one(
    connection: AsyncConnection, database: Database, statement: str, parameters: dict[str, Any]
) -> dict[str, Any] | None:
    cursor = await connection.execute(_sql(database, statement), parameters, prepare=True)
    return await cursor.fetchone()


def _sql(database: Database, statement: str) -> LiteralString:
    return database.sql(load("keys")[statement])
