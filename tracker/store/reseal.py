"""Encrypts stored values anew, with the current key: after a rotation, or after encryption was
switched on. Walks the table by primary key, a bounded page at a time; safe to stop and repeat.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from tracker.core.payloads import Sealed, label_of
from tracker.encryption import Keyring
from tracker.errors import DecryptionFailed
from tracker.store import queries
from tracker.store.database import AsyncConnection, Database
from tracker.store.run_rows import Row

PAGE = 500
"""Values looked at, and rewritten, in one transaction: 128 MiB at the most."""


@dataclass(slots=True)
class ResealReport:
    """What was found.

    Attributes:
        resealed: Values that now have the current key.
        current: Values that had it.
        clear: Values that are not encrypted, and were left so.
        unreadable: Values that could not be opened, by key id; they stay as they are.
    """

    resealed: int = 0
    current: int = 0
    clear: int = 0
    unreadable: dict[str, int] = field(default_factory=dict[str, int])


async def reseal(
    database: Database,
    ring: Keyring,
    *,
    encrypt_clear: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> ResealReport:
    """Give every encrypted value the ring's current key.

    Args:
        encrypt_clear: Also encrypt values that were stored before there were keys.
        advance: Told how many values were looked at so far.
    """
    report, after, looked_at = ResealReport(), UUID(int=0), 0
    while True:
        async with database.transaction() as connection:
            page = await _page(connection, database, ring, after)
            changed = [
                row
                for found in page
                if (row := _resealed(found, ring, report, encrypt_clear=encrypt_clear)) is not None
            ]
            report.resealed += await _write(connection, database, changed)
        if not page:
            return report
        after = page[-1]["id"]
        looked_at += len(page)
        advance(looked_at)


async def _page(
    connection: AsyncConnection, database: Database, ring: Keyring, after: UUID
) -> list[Row]:
    sql = database.sql(queries.load("reseal")["page"])
    parameters = {"after": after, "current": ring.current, "limit": PAGE}
    return list(await (await connection.execute(sql, parameters)).fetchall())


def _resealed(
    row: Row, ring: Keyring, report: ResealReport, *, encrypt_clear: bool
) -> dict[str, Any] | None:
    match row["state"]:
        case "sealed":
            label = label_of(row["digest"], row["treatment"], row["encoding"])
            try:
                clear = ring.open(Sealed(row["key_id"], row["data"]), label)
            except DecryptionFailed:
                key_id = row["key_id"]
                report.unreadable[key_id] = report.unreadable.get(key_id, 0) + 1
                return None
            return _row(row, row["digest"], ring.seal(clear, label))
        case "clear" if encrypt_clear:
            clear = row["data"] if row["body"] is None else row["body"].encode()
            digest = ring.digest(clear)
            label = label_of(digest, row["treatment"], row["encoding"])
            return _row(row, digest, ring.seal(clear, label))
        case "clear":
            report.clear += 1
        case "current":
            report.current += 1
        case _:
            pass
    return None


def _row(row: Row, digest: bytes, sealed: Sealed) -> dict[str, Any]:
    return {
        "id": row["id"],
        "digest": digest.hex(),
        "data": b64encode(sealed.data).decode(),
        "key_id": sealed.key_id,
        "was": row["key_id"],
    }


async def _write(connection: AsyncConnection, database: Database, rows: list[Any]) -> int:
    if not rows:
        return 0
    sql = database.sql(queries.load("reseal")["write"])
    cursor = await connection.execute(sql, {"rows": orjson.dumps(rows).decode()})
    return cursor.rowcount
