"""Takes in what the owners of externally driven runs report, one report at a time per run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg.types.json import Jsonb

from tracker.core.events import ExternalRun, TrackerEvent
from tracker.core.external import (
    KnownExternalRun,
    KnownExternalStep,
    RunReport,
    StepReport,
    reopens,
    run_event,
    step_events,
)
from tracker.core.fold import fold
from tracker.core.ids import Ref, new_id
from tracker.core.status import Engine, RunStatus, StepStatus
from tracker.errors import Conflict, InvalidRequest, NotFound
from tracker.models.wire import RunRead
from tracker.store.audit import DONE
from tracker.store.batch_document import encode
from tracker.store.database import AsyncConnection, Database
from tracker.store.queries import load
from tracker.store.record import execute
from tracker.store.run_detail import find_run
from tracker.store.run_rows import run_read

Row = dict[str, Any]
_SQL = load("external")


@dataclass(frozen=True, slots=True)
class Reported:
    """What came of a report of a run.

    Attributes:
        inserted: Whether the run was not on record before.
    """

    run: RunRead
    inserted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep:
    """What a report says about sleeping: until when, or that the run no longer does."""

    until: datetime | None


async def report_run(
    database: Database,
    run: ExternalRun | None,
    id_: UUID,
    report: Callable[[ExternalRun], RunReport],
    *,
    namespace: str,
    actor: str,
    sleep: Sleep | None = None,
    verbatim: Callable[[ExternalRun], str | None] = lambda _: None,
) -> Reported:
    """Take in a report of a run.

    Args:
        run: What never changes about it, where the report tells; needed of a run that is not on
            record. A ref is taken in where the run has none.
        report: Makes the report, once it is known which run it is of.
        actor: Who reports, for the audit: a run that is reopened leaves its verdict there.
        verbatim: The report as it came, as far as it may be kept, for those who watch in its own
            language.

    Raises:
        NotFound: The run is not on record, and `run` is not given.
        Conflict: Temporal drives it, it has ended, it was erased, or it is another's.
        InvalidRequest: What is said contradicts itself, or the run's ref is another one.
    """
    async with database.transaction() as connection:
        known = await _locked(connection, database, namespace, id_)
        told = _identity(known, run, id_, namespace)
        before = _known_run(known)
        reported = report(told)
        event = run_event(before, reported, known["at"])
        await _write(connection, database, [event], verbatim(told))
        if reopens(before, reported):
            await _keep_verdict(connection, database, namespace, known, actor)
        await _note_sleep(connection, database, id_, known["waiting_on"], event.status, sleep)
        row = await find_run(connection, database, namespace, id_)
    return Reported(run_read(row), inserted=before is None)


async def report_step(
    database: Database,
    run_id: UUID,
    report: Callable[[ExternalRun], StepReport],
    *,
    namespace: str,
    verbatim: Callable[[ExternalRun], str | None] = lambda _: None,
) -> tuple[UUID, bool]:
    """Take in a report of a step; returns its id, and whether it was not on record before.

    Raises:
        NotFound: Its run is not on record.
        Conflict: Temporal drives the run, or it was erased.
        InvalidRequest: What is said contradicts itself.
    """
    async with database.transaction() as connection:
        known = await _locked(connection, database, namespace, run_id)
        if known["id"] is None or known["namespace"] != namespace:
            raise NotFound(
                f"there is no run {run_id} in namespace {namespace!r}: report the run before its "
                "steps",
                run_id=str(run_id),
            )
        run = _identity(known, None, run_id, namespace)
        told = report(run)
        step_id = told.identity.id
        rows = await _fetch(connection, database, "known_step", id=step_id)
        step = _known_step(rows[0]) if rows else None
        await _write(connection, database, step_events(step, told, known["at"]), verbatim(run))
    return step_id, step is None


async def _locked(
    connection: AsyncConnection, database: Database, namespace: str, id_: UUID
) -> Row:
    await _fetch(connection, database, "lock", id=id_)
    return (await _fetch(connection, database, "known", id=id_, namespace=namespace))[0]


def _known_run(row: Row) -> KnownExternalRun | None:
    if row["id"] is None:
        return None
    return KnownExternalRun(status=RunStatus(row["status"]), status_version=row["status_version"])


def _known_step(row: Row) -> KnownExternalStep:
    return KnownExternalStep(
        status=StepStatus(row["status"]),
        attempts=row["attempts"],
        last_started_at=row["last_started_at"],
    )


def _identity(known: Row, run: ExternalRun | None, id_: UUID, namespace: str) -> ExternalRun:
    if known["id"] is None:
        if run is None:
            raise NotFound(f"there is no run {id_} in namespace {namespace!r}", run_id=str(id_))
        return run
    if known["namespace"] != namespace:
        raise Conflict(f"run {id_} is of another namespace", run_id=str(id_))
    if known["engine"] != Engine.EXTERNAL:
        raise Conflict(
            f"run {id_} is driven by {known['engine'].capitalize()}: what it does is recorded from "
            "there, and no report changes it",
            run_id=str(id_),
            engine=known["engine"],
        )
    if known["erased"]:
        raise Conflict(f"run {id_} was erased; nothing is added to it", run_id=str(id_))
    ref = None if known["ref_type"] is None else Ref(known["ref_type"], known["ref_id"])
    told = ExternalRun(
        id=id_,
        namespace=namespace,
        workflow_type=known["workflow_type"],
        own_id=known["workflow_id"],
        ref=ref,
    )
    return told if run is None else _agreed(told, run)


def _agreed(known: ExternalRun, told: ExternalRun) -> ExternalRun:
    if told.workflow_type != known.workflow_type:
        raise Conflict(
            f"run {known.id} is of type {known.workflow_type!r}, not {told.workflow_type!r}",
            run_id=str(known.id),
        )
    if told.ref is not None and known.ref not in (None, told.ref):
        raise InvalidRequest(
            f"run {known.id} has the ref {known.ref}, which does not change", field="ref_id"
        )
    return replace(known, ref=known.ref or told.ref)


async def _write(
    connection: AsyncConnection,
    database: Database,
    events: list[TrackerEvent] | list[Any],
    verbatim: str | None,
) -> None:
    encoded = encode(fold(events), report=verbatim)
    prepare = database.options.direct_dsn is None
    await execute(connection, database.options.schema, encoded, prepare=prepare)


async def _keep_verdict(
    connection: AsyncConnection, database: Database, namespace: str, known: Row, actor: str
) -> None:
    verdict = {"status": known["status"], "finished_at": known["finished_at"]}
    await connection.execute(
        database.sql(load("audit")["record_action"]),
        {
            "id": new_id(),
            "namespace": namespace,
            "actor": actor,
            "action": "reopen",
            "run_id": known["id"],
            "reason": None,
            "outcome": DONE,
            "details": orjson.dumps(verdict).decode(),
        },
    )


async def _note_sleep(
    connection: AsyncConnection,
    database: Database,
    id_: UUID,
    before: Any,
    status: RunStatus,
    sleep: Sleep | None,
) -> None:
    """An owner's word of sleeping takes the place of what the reconciler sees of a Temporal run."""
    if sleep is None or status is not RunStatus.RUNNING:
        if before is None or status is RunStatus.RUNNING:
            return
        waiting = None
    else:
        until = None if sleep.until is None else sleep.until.isoformat()
        waiting = None if sleep.until is None else Jsonb([{"kind": "timer", "until": until}])
    await _fetch(connection, database, "set_waiting", id=id_, waiting_on=waiting)


async def workflow_of_number(
    database: Database, namespace: str, number: int
) -> tuple[str, Ref | None] | None:
    """Type and ref of the workflow with this number; None if there is none, or if two share it."""
    if not 0 <= number < 1 << 48:
        return None
    low, high = UUID(int=number << 80), UUID(int=(number + 1 << 80) - 1)
    async with database.connection() as connection:
        rows = await _fetch(
            connection, database, "workflow_between", low=low, high=high, namespace=namespace
        )
    if len(rows) != 1:
        return None
    row = rows[0]
    ref = None if row["ref_type"] is None else Ref(row["ref_type"], row["ref_id"])
    return row["workflow_type"], ref


async def workflow_numbers(
    connection: AsyncConnection, database: Database, namespace: str, runs: list[Row]
) -> dict[tuple[str, str | None, str | None], int]:
    """Numbers of the workflows of some runs, by type and ref."""
    names = ("workflow_type", "ref_type", "ref_id")
    asked = {tuple(run[name] for name in names) for run in runs}
    rows = await _fetch(
        connection,
        database,
        "workflow_ids",
        namespace=namespace,
        asked=Jsonb([dict(zip(names, one, strict=True)) for one in asked]),
    )
    return {
        (r["workflow_type"], r["ref_type"], r["ref_id"]): workflow_number(r["id"]) for r in rows
    }


def workflow_number(id_: UUID) -> int:
    """A number for a workflow that other languages hold exactly: the first 48 bits of its id."""
    return id_.int >> 80


async def _fetch(
    connection: AsyncConnection, database: Database, name: str, **parameters: Any
) -> list[Row]:
    cursor = await connection.execute(database.sql(_SQL[name]), parameters)
    return await cursor.fetchall() if cursor.description is not None else []
