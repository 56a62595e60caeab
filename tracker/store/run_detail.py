"""One run with everything in it, in a bounded number of statements and of rows.

The run is read before its steps, so an answer may show steps that are ahead of the run's status,
never a closed run whose last steps are missing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from tracker.errors import NotFound
from tracker.models.wire import (
    OutboxEntryRead,
    PayloadRead,
    RefRead,
    RunDetail,
    RunRead,
    RunResult,
    StepDetail,
)
from tracker.store import dead_entries, queries
from tracker.store.database import AsyncConnection, Database
from tracker.store.dead_entries import OutboxEntry
from tracker.store.payloads import get_payloads, payload_value
from tracker.store.run_rows import (
    NO_TRIES,
    Row,
    Tries,
    attempt_read,
    error_info,
    run_fields,
    run_read,
    step_fields,
    step_read,
    task_failure,
)

STEPS_MAX = 1000
ATTEMPTS_MAX = 5000
ATTEMPTS_PER_STEP = 100
"""Of one step in the detail of its run, so that no step crowds out the others."""
REFS_MAX = 1000
OUTBOX_MAX = 100

_SQL = queries.load("runs")
_DETAILS = ("unverifiable_at", "erased_at", "payloads_purged_at")
_WAITING = ("paused_at", "waiting_on", "waiting_on_at")


async def get_run(database: Database, namespace: str, run_id: UUID) -> RunRead:
    """A run as lists show it.

    Args:
        namespace: Temporal namespace; runs of others do not exist here.
        run_id: Ours or Temporal's.

    Raises:
        NotFound: There is none.
    """
    async with database.connection() as connection:
        return run_read(await find_run(connection, database, namespace, run_id))


async def run_exists(database: Database, namespace: str, run_id: UUID) -> bool:
    """Whether there is such a run."""
    async with database.connection() as connection:
        rows = await _fetch(connection, database, "get_run", run_id=run_id, namespace=namespace)
    return bool(rows)


async def check_run_within(
    database: Database,
    namespace: str,
    run_id: UUID,
    *,
    ref_types: Collection[str] | None,
    workflow_types: Collection[str] | None,
) -> None:
    """Look whether a run is of one of these types and carries a ref of one of these.

    Args:
        run_id: Ours or Temporal's.
        ref_types, workflow_types: None: any.

    Raises:
        NotFound: It does not, or there is none: whoever may not see it is not told which.
    """
    async with database.connection() as connection:
        rows = await _fetch(
            connection,
            database,
            "is_run_within",
            namespace=namespace,
            run_id=run_id,
            ref_types=None if ref_types is None else sorted(ref_types),
            workflow_types=None if workflow_types is None else sorted(workflow_types),
        )
    if not rows:
        raise _no_run(namespace, run_id)


async def run_detail(database: Database, namespace: str, run_id: UUID) -> RunDetail:
    """A run with its values, refs, at most `STEPS_MAX` steps and `ATTEMPTS_MAX` attempts.

    Raises:
        NotFound: There is no such run.
    """
    async with database.connection() as connection:
        run = await find_run(connection, database, namespace, run_id)
        payloads = await get_payloads(connection, database, [run["input_id"], run["output_id"]])
        refs = await _fetch(connection, database, "get_refs", run_id=run["id"], limit=REFS_MAX)
        entries = await dead_entries.entries_of_run(connection, database, run["id"], OUTBOX_MAX)
        steps = await steps_of(connection, database, run)
        tries = await _tries(connection, database, steps[:STEPS_MAX], ATTEMPTS_PER_STEP)
    shown = [
        step_read(step, run["id"], tries.get(step["id"], NO_TRIES)) for step in steps[:STEPS_MAX]
    ]
    return RunDetail(
        **run_fields(run),
        input=payloads.get(run["input_id"]),
        output=payloads.get(run["output_id"]),
        refs=[_ref_read(ref, run) for ref in refs],
        task_failure=task_failure(run),
        worker_identity=run["worker_identity"],
        build_id=run["build_id"],
        steps=shown,
        steps_truncated=len(steps) > STEPS_MAX,
        attempts_truncated=any(step.attempts_truncated for step in shown),
        outbox=[_entry_read(entry) for entry in entries],
        **{name: run[name] for name in _DETAILS},
        **({} if run["finished_at"] else {name: run[name] for name in _WAITING}),
    )


async def get_step(database: Database, namespace: str, run_id: UUID, step_id: UUID) -> StepDetail:
    """A step with its values and up to `ATTEMPTS_MAX` attempts, the latest ones.

    Raises:
        NotFound: There is no such run, or no such step in it.
    """
    async with database.connection() as connection:
        run = await find_run(connection, database, namespace, run_id)
        rows = await _fetch(
            connection,
            database,
            "get_step",
            step_id=step_id,
            namespace=namespace,
            run_key=run["run_key"],
        )
        if not rows:
            raise NotFound(f"run {run_id} has no step {step_id}", step_id=str(step_id))
        step = rows[0]
        tries = await _tries(connection, database, rows, ATTEMPTS_MAX)
        payloads = await get_payloads(connection, database, [step["input_id"], step["output_id"]])
    return StepDetail(
        **step_fields(step, run["id"], tries.get(step["id"], NO_TRIES)),
        input=payloads.get(step["input_id"]),
        output=payloads.get(step["output_id"]),
    )


async def get_input(database: Database, namespace: str, run_id: UUID) -> PayloadRead | None:
    """What is kept of a run's input: a JSON array of the arguments, if it is JSON.

    Raises:
        NotFound: There is no such run.
    """
    async with database.connection() as connection:
        run = await find_run(connection, database, namespace, run_id)
        payloads = await get_payloads(connection, database, [run["input_id"]])
    return payloads.get(run["input_id"])


async def get_result(database: Database, namespace: str, run_id: UUID) -> RunResult:
    """A run's status, and its output if it has one that was kept.

    Raises:
        NotFound: There is no such run.
    """
    async with database.connection() as connection:
        run = await find_run(connection, database, namespace, run_id)
        payloads = await get_payloads(connection, database, [run["output_id"]])
    available, output = payload_value(payloads.get(run["output_id"]))
    return RunResult(
        run_id=run["id"],
        status=run["status"],
        done=run["finished_at"] is not None,
        output=output,
        output_available=available,
        error=error_info(run),
        continued_to=run["continued_to"],
    )


async def find_run(
    connection: AsyncConnection, database: Database, namespace: str, run_id: UUID
) -> Row:
    """The row of a run, by our id or Temporal's.

    Raises:
        NotFound: There is none in this namespace.
    """
    rows = await _fetch(connection, database, "get_run", run_id=run_id, namespace=namespace)
    if not rows:
        raise _no_run(namespace, run_id)
    return rows[0]


def _no_run(namespace: str, run_id: UUID) -> NotFound:
    return NotFound(f"there is no run {run_id} in namespace {namespace!r}", run_id=str(run_id))


async def steps_of(connection: AsyncConnection, database: Database, run: Row) -> list[Row]:
    """Rows of a run's steps, one more than `STEPS_MAX` at most."""
    if run["run_key"] is None:
        return []
    return await _fetch(
        connection,
        database,
        "get_steps",
        namespace=run["namespace"],
        run_key=run["run_key"],
        limit=STEPS_MAX + 1,
    )


async def _tries(
    connection: AsyncConnection, database: Database, steps: Sequence[Row], per_step: int
) -> dict[UUID, Tries]:
    """Attempts by step. What is cut are the oldest of a step, and the last steps."""
    tried = {step["id"]: step for step in steps if step["attempts"]}
    if not tried:
        return {}
    rows = await _fetch(
        connection,
        database,
        "get_attempts",
        steps=list(tried),
        per_step=per_step + 1,
        limit=ATTEMPTS_MAX + 1,
    )
    by_step: dict[UUID, list[Row]] = {key: [] for key in tried}
    for row in rows[:ATTEMPTS_MAX]:
        by_step[row["step_id"]].append(row)
    cut_at = list(tried).index(rows[-1]["step_id"]) if len(rows) > ATTEMPTS_MAX else len(tried)
    return {
        key: Tries(
            [attempt_read(row, tried[key]) for row in reversed(found[:per_step])],
            truncated=len(found) > per_step or position >= cut_at,
        )
        for position, (key, found) in enumerate(by_step.items())
    }


async def _fetch(
    connection: AsyncConnection, database: Database, name: str, **parameters: Any
) -> list[Row]:
    cursor = await connection.execute(database.sql(_SQL[name]), parameters, prepare=True)
    return list(await cursor.fetchall())


def _ref_read(ref: Row, run: Row) -> RefRead:
    primary = (ref["ref_type"], ref["ref_id"]) == (run["ref_type"], run["ref_id"])
    return RefRead(ref_type=ref["ref_type"], ref_id=ref["ref_id"], primary=primary)


def _entry_read(entry: OutboxEntry) -> OutboxEntryRead:
    return OutboxEntryRead(
        id=entry.id,
        kind=entry.kind,
        created_at=entry.created_at,
        due_at=entry.due_at,
        tries=entry.tries,
        last_error=entry.last_error,
        dead_at=entry.dead_at,
    )
