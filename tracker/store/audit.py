"""Who controlled which run, why, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from tracker.core.ids import new_id
from tracker.models.audit import AuditEntry, AuditFilter, AuditPage
from tracker.store.cursors import decode_cursor, encode_cursor, list_digest
from tracker.store.database import Database
from tracker.store.queries import load

DONE = "done"
"""Outcome of an action that was carried out; that of another one is the code of its error."""

ACTIONS_MAX = 1000
_LAST = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One entry.

    Attributes:
        actor: Name of the API key, or whoever acts.
        action: `cancel`, `terminate`, `signal`, `update`, ….
        run_id: Our id of the run; None of what concerns no single one.
        outcome: `DONE`, or a code of `tracker.errors`.
        details: JSON object; never arguments of users, which the payload policy may forbid.
    """

    actor: str
    action: str
    run_id: UUID | None
    outcome: str
    reason: str | None = None
    details: Mapping[str, Any] | None = None


async def record_action(database: Database, namespace: str, action: Action) -> None:
    """Add an entry."""
    parameters = {
        "id": new_id(),
        "namespace": namespace,
        "actor": action.actor,
        "action": action.action,
        "run_id": action.run_id,
        "reason": action.reason,
        "outcome": action.outcome,
        "details": None if action.details is None else orjson.dumps(dict(action.details)).decode(),
    }
    async with database.connection() as connection:
        await connection.execute(database.sql(load("audit")["record_action"]), parameters)


async def list_actions(database: Database, namespace: str, filters: AuditFilter) -> AuditPage:
    """A page of entries, newest first.

    Raises:
        InvalidRequest: The cursor is none, or one of another list.
    """
    digest = list_digest("audit", namespace, filters)
    after = None if filters.cursor is None else decode_cursor(filters.cursor, digest)
    parameters = {
        "namespace": namespace,
        **filters.model_dump(exclude={"limit", "cursor"}),
        "after_at": None if after is None else after.at,
        "after_id": _LAST if after is None else after.id,
        "limit": filters.limit + 1,
    }
    async with database.connection() as connection:
        sql = database.sql(load("audit")["list_actions"])
        # Never a generic plan: which index serves depends on which filters are given.
        rows = await (await connection.execute(sql, parameters, prepare=False)).fetchall()
    shown, more = rows[: filters.limit], len(rows) > filters.limit
    return AuditPage(
        entries=[AuditEntry.model_validate(row) for row in shown],
        next_cursor=encode_cursor(shown[-1], digest, at="at") if more else None,
    )


async def actions_of_run(database: Database, run_id: UUID) -> list[dict[str, Any]]:
    """Entries of a run, oldest first: `at`, `actor`, `action`, `reason`, `outcome`, `details`."""
    parameters = {"run_id": run_id, "limit": ACTIONS_MAX}
    async with database.connection() as connection:
        sql = database.sql(load("audit")["actions_of_run"])
        return await (await connection.execute(sql, parameters)).fetchall()
