"""Entries of the outbox that are given up: nothing tries a dead entry again until somebody revives
it. Why it is dead stands in `last_error`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from tracker.errors import Conflict, NotFound
from tracker.store import outbox
from tracker.store.contention import despite_conflicts
from tracker.store.database import AsyncConnection, Database
from tracker.store.outbox import Leased, Row, backoff, kept_error
from tracker.store.queries import load

FAILURES_MAX = 5
"""Tries in which something failed that no try should meet, after which an entry is dead."""

DROPPED = "DroppedFromOutbox"
"""Error type of a run whose dead start somebody dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxEntry:
    """An entry as people see it.

    Attributes:
        run_id: Our id of the run; of a signal to a workflow id computed from that.
        due_at: When it is tried next, or until when somebody has it; None of a dead one.
        failures: Tries in which something failed that no try should meet.
        last_error: Why the last try decided nothing, or why it is dead.
    """

    id: UUID
    kind: Literal["start", "signal"]
    run_id: UUID
    created_at: datetime
    due_at: datetime | None
    tries: int
    failures: int
    last_error: str | None
    dead_at: datetime | None


async def bury(database: Database, entry: Leased, reason: str) -> bool:
    """Give an entry up, unless somebody took it over; what waited for it goes on.

    Returns:
        Whether it is dead by this call.
    """
    parameters = {"id": entry.id, "tries": entry.tries, "error": kept_error(reason)}
    rows = await _changed(database, "bury", parameters)
    if rows:
        await _changed(database, "awaken_next", {"id": entry.id})
    return bool(rows)


async def fail(database: Database, entry: Leased, error: str) -> bool:
    """Note a failure that no try should meet; the entry is tried again, but not for ever.

    Returns:
        Whether it is dead by this call.
    """
    parameters = {
        "id": entry.id,
        "tries": entry.tries,
        "delay": backoff(entry.tries),
        "most": FAILURES_MAX,
        "error": kept_error(error),
    }
    rows = await _changed(database, "fail", parameters)
    dead = bool(rows) and bool(rows[0]["dead"])
    if dead:
        await _changed(database, "awaken_next", {"id": entry.id})
    return dead


async def list_entries(
    database: Database, namespace: str, *, dead: bool, limit: int
) -> list[OutboxEntry]:
    """Entries, those due first, dead ones last; or dead ones only, the oldest first."""
    name = "list_dead" if dead else "list_entries"
    return await _read(database, name, {"namespace": namespace, "limit": limit})


async def entries_of_run(
    connection: AsyncConnection, database: Database, run_id: UUID, limit: int
) -> list[OutboxEntry]:
    """What waits for a run, or is dead: its start, signals, in the order of acceptance."""
    sql = database.sql(load("dead_entries")["entries_of_run"])
    cursor = await connection.execute(sql, {"run_id": run_id, "limit": limit}, prepare=True)
    return [OutboxEntry(**row) for row in await cursor.fetchall()]


async def revive(database: Database, namespace: str, entry_id: UUID) -> OutboxEntry:
    """Make a dead entry due again.

    Raises:
        NotFound: There is no such entry.
        Conflict: It is not dead.
    """
    entry = await _dead_entry(database, namespace, entry_id)
    if not await _changed(database, "revive", {"namespace": namespace, "id": entry_id}):
        raise _not_dead(entry_id)
    return entry


async def drop(database: Database, namespace: str, entry_id: UUID) -> OutboxEntry:
    """Remove a dead entry for good; the run of a start is closed as `rejected`.

    Raises:
        NotFound: There is no such entry.
        Conflict: It is not dead.
    """
    entry = await _dead_entry(database, namespace, entry_id)
    if entry.kind == "signal":
        if not await _changed(database, "drop_signal", {"namespace": namespace, "id": entry_id}):
            raise _not_dead(entry_id)
        return entry
    reason = f"its start was dropped from the outbox, where it was dead: {entry.last_error}"
    await outbox.reject_run(database, entry.run_id, DROPPED, reason)
    return entry


async def _dead_entry(database: Database, namespace: str, entry_id: UUID) -> OutboxEntry:
    found = await _read(database, "get_entry", {"namespace": namespace, "id": entry_id})
    if not found:
        raise NotFound(
            f"the outbox of namespace {namespace!r} has no entry {entry_id}; it may have been "
            "delivered meanwhile",
            id=str(entry_id),
        )
    if found[0].dead_at is None:
        raise _not_dead(entry_id)
    return found[0]


def _not_dead(entry_id: UUID) -> Conflict:
    return Conflict(
        f"entry {entry_id} is not dead: a relay will try it. To stop a start, cancel its run",
        id=str(entry_id),
    )


async def _read(database: Database, name: str, parameters: dict[str, Any]) -> list[OutboxEntry]:
    sql = database.sql(load("dead_entries")[name])
    async with database.connection() as connection:
        cursor = await connection.execute(sql, parameters)
        return [OutboxEntry(**row) for row in await cursor.fetchall()]


async def _changed(database: Database, name: str, parameters: dict[str, Any]) -> list[Row]:
    sql = database.sql(load("dead_entries")[name])

    async def change(connection: AsyncConnection) -> list[Row]:
        cursor = await connection.execute(sql, parameters)
        return list(await cursor.fetchall()) if cursor.description else []

    return await despite_conflicts(database, change)
