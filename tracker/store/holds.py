"""Legal holds: refs whose runs no purge and no erasure touches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tracker.core.ids import Ref
from tracker.store.database import Database
from tracker.store.queries import load


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a ref is held, by whom and since when."""

    ref: str
    reason: str
    actor: str
    held_at: datetime


async def add_hold(database: Database, namespace: str, ref: Ref, reason: str, actor: str) -> bool:
    """Hold a ref; False if it was held already."""
    rows = await _fetch(database, "add_hold", namespace, **_of(ref), reason=reason, actor=actor)
    return bool(rows)


async def remove_hold(database: Database, namespace: str, ref: Ref) -> bool:
    """Let go of a ref; False if nobody held it."""
    return bool(await _fetch(database, "remove_hold", namespace, **_of(ref)))


async def list_holds(database: Database, namespace: str) -> list[Hold]:
    """All holds of a namespace, by ref; 10,000 at most."""
    rows = await _fetch(database, "list_holds", namespace)
    return [
        Hold(f"{row['ref_type']}/{row['ref_id']}", row["reason"], row["actor"], row["held_at"])
        for row in rows
    ]


def _of(ref: Ref) -> dict[str, str]:
    return {"ref_type": ref.ref_type, "ref_id": ref.ref_id}


async def _fetch(
    database: Database, name: str, namespace: str, **parameters: Any
) -> list[dict[str, Any]]:
    sql = database.sql(load("retention")[name])
    async with database.connection() as connection:
        cursor = await connection.execute(sql, {"namespace": namespace} | parameters)
        return await cursor.fetchall()
