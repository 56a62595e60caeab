"""Looking up one step: where its history began, and the activity that stands behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tracker.core.status import CLOSED_STEP_STATUSES, StepKind, StepStatus
from tracker.errors import Conflict, NotFound
from tracker.store import queries
from tracker.store.database import Database


@dataclass(frozen=True, slots=True)
class PendingActivity:
    """An activity that has not ended, as Temporal's calls name it."""

    activity_id: str
    name: str


async def step_event(
    database: Database, namespace: str, run_key: UUID | None, step_id: UUID
) -> int | None:
    """The history event that asked for a step; None while only its worker has told of it.

    Raises:
        NotFound: The run has no such step.
    """
    return (await _step(database, namespace, run_key, step_id))["event_id"]


async def pending_activity(
    database: Database, namespace: str, run_key: UUID | None, step_id: UUID
) -> PendingActivity:
    """The activity behind a step.

    Raises:
        NotFound: The run has no such step.
        Conflict: It is no activity, or it has ended.
    """
    step = await _step(database, namespace, run_key, step_id)
    if step["kind"] != StepKind.ACTIVITY:
        raise Conflict(
            f"step {step['name']!r} is a {step['kind']}: only activities can be paused or reset",
            step_id=str(step_id),
        )
    if StepStatus(step["status"]) in CLOSED_STEP_STATUSES:
        raise Conflict(f"step {step['name']!r} has ended as {step['status']}", step_id=str(step_id))
    # `core.ids.activity_key`: the id and, behind the last @, when it was scheduled.
    return PendingActivity(step["step_key"].rpartition("@")[0], step["name"])


async def _step(
    database: Database, namespace: str, run_key: UUID | None, step_id: UUID
) -> dict[str, Any]:
    parameters = {"step_id": step_id, "namespace": namespace, "run_key": run_key}
    async with database.connection() as connection:
        sql = database.sql(queries.load("runs")["get_step"])
        row = await (await connection.execute(sql, parameters, prepare=True)).fetchone()
    if row is None:
        raise NotFound(f"the run has no step {step_id}", step_id=str(step_id))
    return row
