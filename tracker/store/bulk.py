"""Actions on many runs as they stand in the tables: made, filled, worked off, read.

What a reader gets wrong: a row in `bulk_item` is claimed by counting a try, not by a lock. Whoever
works it off must be able to do the same thing twice, and the second worker of a bulk is harmless.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tracker.core.status import BulkItemStatus, BulkStatus
from tracker.errors import NotFound
from tracker.models.control import (
    BulkItemFilter,
    BulkItemPage,
    BulkItemRead,
    BulkPage,
    BulkRead,
)
from tracker.models.filters import Page
from tracker.store import queries
from tracker.store.cursors import decode_cursor, encode_cursor, list_digest
from tracker.store.database import Database

MESSAGE_MAX = 500
"""Characters of an item's error that are kept."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)
_NIL, _LAST = UUID(int=0), UUID(int=(1 << 128) - 1)


@dataclass(frozen=True, slots=True)
class ClaimedItem:
    """A run to be dealt with; `tries` counts this one."""

    run_id: UUID
    tries: int


async def create_bulk(
    database: Database,
    namespace: str,
    bulk_id: UUID,
    *,
    action: str,
    filters: Mapping[str, Any],
    actor: str,
    reason: str | None,
    rate: float,
) -> None:
    """Put a bulk action on record; safe to repeat."""
    await _run(
        database,
        "create_bulk",
        id=bulk_id,
        namespace=namespace,
        action=action,
        filter=json.dumps(dict(filters)),
        actor=actor,
        reason=reason,
        rate=rate,
    )


async def get_bulk(database: Database, namespace: str, bulk_id: UUID) -> BulkRead:
    """A bulk action with its counts.

    Raises:
        NotFound: There is none.
    """
    rows = await _run(database, "get_bulk", id=bulk_id, namespace=namespace)
    if not rows:
        raise NotFound(f"there is no bulk action {bulk_id}", bulk_id=str(bulk_id))
    return _bulk_read(rows[0])


async def list_bulks(database: Database, namespace: str, page: Page) -> BulkPage:
    """Bulk actions, newest first.

    Raises:
        InvalidRequest: The cursor is none, or one of another list.
    """
    digest = list_digest("bulk", namespace, page)
    after_at, after_id = _LATEST, _LAST
    if page.cursor is not None:
        after = decode_cursor(page.cursor, digest)
        after_at, after_id = after.at, after.id
    rows = await _run(
        database,
        "list_bulks",
        namespace=namespace,
        after_at=after_at,
        after_id=after_id,
        limit=page.limit + 1,
    )
    shown, more = rows[: page.limit], len(rows) > page.limit
    return BulkPage(
        bulks=[_bulk_read(row) for row in shown],
        next_cursor=encode_cursor(shown[-1], digest, at="created_at") if more else None,
    )


async def list_items(database: Database, bulk_id: UUID, filters: BulkItemFilter) -> BulkItemPage:
    """The runs of a bulk action, by id.

    Raises:
        InvalidRequest: The cursor is none, or one of another list.
    """
    digest = list_digest("bulk_items", str(bulk_id), filters)
    after = _NIL if filters.cursor is None else decode_cursor(filters.cursor, digest).id
    rows = await _run(
        database,
        "list_items",
        id=bulk_id,
        status=filters.status,
        after_id=after,
        limit=filters.limit + 1,
    )
    shown, more = rows[: filters.limit], len(rows) > filters.limit
    last = {"at": _EPOCH, "id": shown[-1]["run_id"]} if more else {}
    return BulkItemPage(
        items=[BulkItemRead(**row) for row in shown],
        next_cursor=encode_cursor(last, digest, at="at") if more else None,
    )


async def add_items(database: Database, bulk_id: UUID, run_ids: Sequence[UUID]) -> None:
    """Add runs to a bulk action; those that it has already stay as they are."""
    await _run(database, "add_items", id=bulk_id, run_ids=list(run_ids))


async def start_acting(database: Database, bulk_id: UUID) -> None:
    """All runs are gathered; safe to repeat."""
    await _run(database, "start_acting", id=bulk_id)


async def claim_items(database: Database, bulk_id: UUID, limit: int) -> list[ClaimedItem]:
    """Some runs that are not dealt with, each with one more try."""
    rows = await _run(database, "claim_items", id=bulk_id, limit=limit)
    return [ClaimedItem(row["run_id"], row["tries"]) for row in rows]


async def end_item(
    database: Database,
    bulk_id: UUID,
    run_id: UUID,
    *,
    new_run_id: UUID | None = None,
    error_code: str | None = None,
    error_message: str | None = None,
) -> None:
    """A run is dealt with; the first word about it counts."""
    await _run(
        database,
        "end_item",
        id=bulk_id,
        run_id=run_id,
        status=BulkItemStatus.DONE if error_code is None else BulkItemStatus.FAILED,
        new_run_id=new_run_id,
        error_code=error_code,
        error_message=None if error_message is None else error_message[:MESSAGE_MAX],
    )


async def end_bulk(
    database: Database, bulk_id: UUID, status: BulkStatus, error: str | None = None
) -> None:
    """A bulk action is over; the first word about that counts."""
    await _run(database, "end_bulk", id=bulk_id, status=status, error=error)


def _bulk_read(row: Mapping[str, Any]) -> BulkRead:
    return BulkRead(bulk_id=row["id"], **{k: v for k, v in row.items() if k != "id"})


async def _run(database: Database, name: str, **parameters: Any) -> list[dict[str, Any]]:
    async with database.connection() as connection:
        sql = database.sql(queries.load("bulk")[name])
        cursor = await connection.execute(sql, parameters, prepare=True)
        return await cursor.fetchall() if cursor.description else []
