"""Accepted starts and signals that Temporal has not confirmed yet: who may try next, and how each
try ended. What is given up is in `dead_entries`.

A lease is a promise not to disturb, never a lock: a relay that outlives its lease calls Temporal
together with the next one, which the shared request id makes harmless. `tries` counts tries begun,
so an entry with more than none may be running already, whatever was heard of it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, ClassVar, Literal, cast
from uuid import UUID

from tracker.core.columns import REF_FROM_MEMO
from tracker.core.events import RunIdentity
from tracker.core.status import RunRank, RunStatus, run_version
from tracker.errors import NotFound
from tracker.store.accept import OnConflict
from tracker.store.contention import despite_conflicts
from tracker.store.database import AsyncConnection, Database
from tracker.store.queries import load
from tracker.store.run_rows import RUN_COLUMNS

BACKOFF_START, BACKOFF_MAX = 0.5, 60.0
"""Seconds before the first and, at most, before any further try."""

ERROR_MAX = 1000
"""Characters of an error message that are kept."""

LOOK_AHEAD, LOOKS, FRONT_MAX = 10, 10, 1000
"""How many due entries a first look examines for each that it may take, how often one `lease` looks
if all that it saw were signals that have to wait, and how many a later look examines at most."""

HELD_MAX = 30.0
"""Seconds after which, at most, a signal that had to wait is looked at again."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedStart:
    """An entry that belongs to its holder until the lease ends.

    Attributes:
        id: Public id of the run, and request id of its start.
        request: Encoded `StartWorkflowExecutionRequest`.
        tries: Which try this is, from 1.
        cancel_requested: It must not start any more; if it did, it is to be canceled.
        is_new: Its holder accepted it in this very moment, so nobody can have tried it.
    """

    id: UUID
    namespace: str
    request: bytes
    on_conflict: OnConflict
    created_at: datetime
    tries: int
    cancel_requested: bool = False
    is_new: bool = False

    kind: ClassVar[Literal["start"]] = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedSignal:
    """A signal that belongs to its holder until the lease ends; no other of its run is leased.

    Attributes:
        id: Request id of the signal.
        run_id: Our id of the run, or the lane of a workflow id.
        request: Encoded `SignalWorkflowExecutionRequest`, without Temporal's run id.
        tries: Which try this is, from 1.
        on_record: Whether there is such a run.
        run_key: Temporal's id of that run, once there is one.
        first_run_key: Temporal's id of the first run of its chain.
    """

    id: UUID
    namespace: str
    run_id: UUID
    request: bytes
    created_at: datetime
    tries: int
    on_record: bool = False
    run_key: UUID | None = None
    first_run_key: UUID | None = None

    kind: ClassVar[Literal["signal"]] = "signal"


Leased = LeasedStart | LeasedSignal


@dataclass(frozen=True, slots=True)
class Finished:
    """The run is bound to Temporal's.

    Attributes:
        run: Its row, in as far as `run_read` needs it.
        cancel_requested: Somebody canceled meanwhile: the entry stays until that is done.
    """

    run: Row
    cancel_requested: bool


class CancelDecision(Enum):
    """What a cancel found."""

    CANCELED = "canceled"
    """The run will never start."""
    REQUESTED = "requested"
    """A start is, or was, under way: whoever learns its end cancels the run."""
    NOT_PENDING = "not_pending"
    """Temporal knows the run, or it has ended: the cancel is Temporal's matter."""


async def lease(
    database: Database, namespace: str, *, limit: int, seconds: float
) -> list[LeasedStart | LeasedSignal]:
    """Take due entries, the longest due first. Any number of relays may ask at once.

    A signal is taken only once the start of its run and all earlier signals of it are gone or dead.

    Args:
        limit: Most entries.
        seconds: How long they are the caller's.
    """
    given = {"namespace": namespace, "limit": limit, "lease": seconds, "held_max": HELD_MAX}

    async def look(connection: AsyncConnection) -> list[Row]:
        parameters = given | {"front": front}
        cursor = await connection.execute(_sql(database, "lease"), parameters, prepare=True)
        return list(await cursor.fetchall())

    front = limit * LOOK_AHEAD
    for _ in range(LOOKS):
        rows = await despite_conflicts(database, look)
        taken = [_leased(row) for row in rows if row["id"] is not None]
        if taken or not rows:
            return taken
        front = max(front, FRONT_MAX)
    return []


async def finish(database: Database, start: LeasedStart, run_key: UUID) -> Finished | None:
    """Bind a run to the one that Temporal started for it.

    Safe to repeat, and after a worker's own report has done it.

    Args:
        run_key: Temporal's run id.

    Returns:
        None if the run is gone, or another row of ours stands for Temporal's run.
    """
    parameters = {
        "id": start.id,
        "run_key": run_key,
        "started_at": _no_earlier_than_started(run_key),
        "version": run_version(RunRank.RUNNING, 1),
    }
    row = await _changed(database, "finish", parameters)
    return None if row is None else Finished(row, row["cancel_requested"])


async def run_of_key(database: Database, namespace: str, run_key: UUID) -> UUID | None:
    """Public id of the run that has this Temporal run id."""
    parameters = {"namespace": namespace, "run_key": run_key}
    async with database.connection() as connection:
        cursor = await connection.execute(_sql(database, "run_of_key"), parameters)
        row = await cursor.fetchone()
    return None if row is None else cast("UUID", row["id"])


async def reject(
    database: Database,
    start: LeasedStart,
    error_type: str,
    message: str,
    *,
    duplicate_of: UUID | None = None,
) -> Row | None:
    """Close a run that Temporal refused for good.

    Args:
        error_type: CamelCase, as error types of runs are.
        duplicate_of: The run that the caller gets instead.

    Returns:
        The run's row; None if it was not `accepted` any more.
    """
    return await reject_run(database, start.id, error_type, message, duplicate_of)


async def reject_run(
    database: Database,
    run_id: UUID,
    error_type: str,
    message: str,
    duplicate_of: UUID | None = None,
) -> Row | None:
    """`reject`, of a start that nobody has leased."""
    parameters = {
        "id": run_id,
        "version": run_version(RunRank.REFUSED, 0),
        "error_type": error_type,
        "error_message": kept_error(message),
        "duplicate_of": duplicate_of,
    }
    return await _changed(database, "reject", parameters)


async def deliver(database: Database, signal: LeasedSignal) -> None:
    """Remove a signal that Temporal has, and make the next one of its run due."""
    await _changed(database, "deliver", {"id": signal.id}, returns=False)


async def adopt(database: Database, existing: RunIdentity) -> UUID:
    """Record a run of Temporal's that we are about to refer to; what is missing of it comes from
    its history.

    Returns:
        The id under which it is recorded, which may be an older one than `existing.id`.
    """
    ref = existing.ref
    parameters = {
        "id": existing.id,
        "namespace": existing.namespace,
        "run_key": existing.run_key,
        "first_run_key": existing.first_run_key,
        "workflow_type": existing.workflow_type,
        "workflow_id": existing.workflow_id,
        "task_queue": existing.task_queue,
        "ref_type": ref and ref.ref_type,
        "ref_id": ref and ref.ref_id,
        "ref_version": None if ref is None else REF_FROM_MEMO,
        "version": run_version(RunRank.RUNNING, 1),
        "started_at": existing.started_at,
    }
    await _changed(database, "adopt", parameters)
    return await run_of_key(database, existing.namespace, existing.run_key) or existing.id


async def put_back(database: Database, entry: Leased, error: str) -> float:
    """Leave an entry to a later try, unless somebody took it over.

    Returns:
        Seconds until it is due.
    """
    delay = backoff(entry.tries)
    parameters = {
        "id": entry.id,
        "tries": entry.tries,
        "delay": delay,
        "error": kept_error(error),
    }
    async with database.connection() as connection:
        await connection.execute(_sql(database, "put_back"), parameters)
    return delay


async def discard(database: Database, start: LeasedStart) -> None:
    """Remove an entry that is done."""
    async with database.connection() as connection:
        await connection.execute(_sql(database, "discard"), {"id": start.id})


async def mark_canceled(database: Database, start: LeasedStart) -> None:
    """Close a run that was canceled before Temporal knew it."""
    await _changed(database, "mark_canceled", _canceled(start.id))


async def cancel(database: Database, run_id: UUID) -> CancelDecision:
    """Cancel a run that may not have started; the row locks decide against a start under way.

    Raises:
        NotFound: No such run.
    """

    async def decide(connection: AsyncConnection) -> CancelDecision:
        async with connection.transaction():
            return await _decide(connection, database, run_id)

    return await despite_conflicts(database, decide)


def backoff(tries: int) -> float:
    """Seconds until the next try: exponential, at most `BACKOFF_MAX`, with jitter, so that what an
    outage delayed does not come all at once."""
    longest = min(BACKOFF_MAX, BACKOFF_START * 2 ** min(tries, 30))
    return longest * random.uniform(0.5, 1.0)


def kept_error(message: str) -> str:
    """A message as a column takes it: Postgres refuses zero characters, the driver surrogates."""
    clean = message[:ERROR_MAX].replace("\x00", "\ufffd")
    return clean.encode(errors="replace").decode()


async def _decide(connection: AsyncConnection, database: Database, run_id: UUID) -> CancelDecision:
    key = {"id": run_id}
    cursor = await connection.execute(_sql(database, "lock_run"), key)
    run = await cursor.fetchone()
    if run is None:
        raise NotFound(f"there is no run {run_id}", run_id=str(run_id))
    cursor = await connection.execute(_sql(database, "lock_entry"), key)
    entry = await cursor.fetchone()
    if entry is None:
        return CancelDecision.NOT_PENDING
    if entry["tries"] == 0 and run["status"] == RunStatus.ACCEPTED:
        await connection.execute(_sql(database, "mark_canceled"), _canceled(run_id))
        return CancelDecision.CANCELED
    await connection.execute(_sql(database, "request_cancel"), key)
    return CancelDecision.REQUESTED


async def _changed(
    database: Database, name: str, parameters: dict[str, Any], *, returns: bool = True
) -> Row | None:
    async def change(connection: AsyncConnection) -> Row | None:
        cursor = await connection.execute(_sql(database, name), parameters, prepare=True)
        return await cursor.fetchone() if returns else None

    return await despite_conflicts(database, change)


def _canceled(run_id: UUID) -> dict[str, Any]:
    return {"id": run_id, "version": run_version(RunRank.CLOSED, 0)}


def _leased(row: Row) -> LeasedStart | LeasedSignal:
    kind = LeasedStart if row["kind"] == "start" else LeasedSignal
    return kind(**{name: row[name] for name in kind.__slots__ if name in row})


def _no_earlier_than_started(run_key: UUID) -> datetime | None:
    """A moment not before the run's start event, whose exact time only its history and its worker
    know and put in its place (the earliest wins): Temporal makes the run id, which tells the
    millisecond, less than a millisecond before."""
    if run_key.version != 7:
        return None
    return _EPOCH + timedelta(milliseconds=run_key.int >> 80) + _START_EVENT_DELAY


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_START_EVENT_DELAY = timedelta(milliseconds=100)


_RUN_COLUMNS = ", ".join(f"r.{column}" for column in RUN_COLUMNS)


def _sql(database: Database, name: str) -> Any:
    return database.sql(load("outbox")[name].replace("{run_columns}", _RUN_COLUMNS))
