"""Empties the runs of one ref, for data protection: values, texts and metadata go, for good; what
happened when, and how it ended, stays.

An erased run takes nothing any more: `record` writes around runs with `erased_at`, so neither a
late worker nor history brings anything back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tracker.core.ids import Ref
from tracker.core.status import HISTORY_AUTHORITY
from tracker.errors import Conflict, NotFound
from tracker.store.database import AsyncConnection, Database
from tracker.store.queries import load

_SQL = load("retention")


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did.

    Attributes:
        run_ids: Ours, of the runs that it emptied.
        before: Runs that were erased already.
        payloads: Values that it deleted.
    """

    run_ids: tuple[UUID, ...]
    before: int
    payloads: int


async def erase(database: Database, namespace: str, ref: Ref) -> Erased:
    """Empty every run that has a ref, be it its primary one or a further one; safe to repeat.

    Raises:
        NotFound: No run has it.
        Conflict: One of them is open, waits in the outbox, or is on legal hold; nothing is erased.
        DatabaseUnavailable: Postgres is away; what was erased stays erased, call again.
    """
    asked = {"namespace": namespace, "ref_type": ref.ref_type, "ref_id": ref.ref_id}
    async with database.connection() as connection:
        runs = await _rows(connection, database, "runs_of_ref", asked)
    if not runs:
        raise NotFound(f"no run in namespace {namespace!r} has the ref {ref}")
    _check(runs)
    left = [run for run in runs if not run["is_erased"]]
    payloads = 0
    for run in left:
        async with database.transaction() as connection:
            payloads += await _erase_run(connection, database, namespace, run)
    async with database.connection() as connection:
        await connection.execute(database.sql(_SQL["erase_workflows"]), asked)
    return Erased(tuple(run["id"] for run in left), len(runs) - len(left), payloads)


def _check(runs: list[dict[str, Any]]) -> None:
    for run in runs:
        if run["held_by"] is not None:
            raise Conflict(
                f"run {run['id']} is on legal hold by {run['held_by']}; nothing was erased. "
                "`flowtrail hold remove` lifts it"
            )
        if not run["is_closed"]:
            raise Conflict(
                f"run {run['id']} is {run['status']}; nothing was erased. Wait for its end, or "
                "cancel or terminate it first"
            )
        if run["is_waiting"]:
            raise Conflict(
                f"run {run['id']} has entries in the outbox; nothing was erased. See "
                "`flowtrail outbox list`, drop them first"
            )


_ERASING = (
    "erase_pending_changes",
    "erase_changes",
    "erase_run",
    "erase_steps",
    "erase_attempts",
    "erase_step_failures",
)


async def _erase_run(
    connection: AsyncConnection, database: Database, namespace: str, run: dict[str, Any]
) -> int:
    given: dict[str, Any] = {
        "namespace": namespace,
        "id": run["id"],
        "ids": [run["id"]],
        "run_key": run["run_key"],
        "run_keys": [run["run_key"]],
        "authority": HISTORY_AUTHORITY,
    }
    await _rows(connection, database, "lock_runs", given)
    found = await _rows(connection, database, "values_of", given)
    for name in _ERASING:
        await connection.execute(database.sql(_SQL[name]), given)
    values = {"values": [row["id"] for row in found]}
    [gone] = await _rows(connection, database, "delete_values", values)
    await connection.execute(database.sql(_SQL["erase_labels"]), given)
    return gone["payloads"]


async def _rows(
    connection: AsyncConnection, database: Database, name: str, parameters: dict[str, Any]
) -> list[dict[str, Any]]:
    cursor = await connection.execute(database.sql(_SQL[name]), parameters)
    return await cursor.fetchall()
