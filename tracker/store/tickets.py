"""Tickets: a browser's EventSource and WebSocket send no headers, and a key in a URL ends up in
logs. A ticket is good for one connection, within seconds."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from psycopg.types.json import Jsonb

from tracker.store.database import Database
from tracker.store.queries import load

PREFIX = "ftt_"
VALID_SECONDS = 60


async def issue(database: Database, caller: Mapping[str, Any]) -> tuple[str, datetime]:
    """Make a ticket.

    Args:
        caller: Whoever it is for, as `redeem` shall give it back; JSON.

    Returns:
        The secret, which is stored nowhere, and when it expires.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    parameters = {
        "secret_hash": _hash(secret),
        "caller": Jsonb(dict(caller)),
        "seconds": VALID_SECONDS,
    }
    async with database.connection() as connection:
        cursor = await connection.execute(database.sql(load("tickets")["issue"]), parameters)
        row = await cursor.fetchone()
    assert row is not None
    return secret, row["expires_at"]


async def redeem(database: Database, secret: str) -> dict[str, Any] | None:
    """Use a ticket up; None if there is none, or it has expired."""
    if not secret.startswith(PREFIX):
        return None
    async with database.connection() as connection:
        cursor = await connection.execute(
            database.sql(load("tickets")["redeem"]), {"secret_hash": _hash(secret)}
        )
        row = await cursor.fetchone()
    return row["caller"] if row is not None and row["valid"] else None


def _hash(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()
