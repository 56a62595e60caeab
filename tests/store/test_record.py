"""The recorder's statement against the Python fold: one merge table, two readers, equal rows."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from tests.factories import NOON, ARun
from tests.strategies import in_any_order, tracker_events
from tracker.core.batch import Batch
from tracker.core.events import (
    Failure,
    RunMetadataSet,
    RunRefAdded,
    StepClosed,
    StepProgressed,
    TrackerEvent,
)
from tracker.core.fold import fold
from tracker.core.ids import Ref
from tracker.core.merge import ATTEMPT, RUN, STEP, Row, Table
from tracker.core.status import AttemptOutcome, StepStatus
from tracker.store import record
from tracker.store.batch_document import Follows, encode, what_follows

A_RUN = ARun()

orders = tracker_events().flatmap(lambda events: st.tuples(st.just(events), in_any_order(events)))


@pytest.fixture(scope="module")
def connection(request: pytest.FixtureRequest) -> Generator[psycopg.Connection[Row]]:
    """One connection for all examples; each rolls back."""
    server = request.getfixturevalue("postgres_server")
    template = request.getfixturevalue("migrated_template")
    server.create_database("record", template=template)
    with psycopg.Connection[Row].connect(server.dsn("record"), row_factory=dict_row) as opened:
        yield opened
    server.drop_database("record")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=orders)
def test_any_order_duplication_and_split_gives_the_rows_of_the_fold(
    connection: psycopg.Connection[Row], case: tuple[list[TrackerEvent], list[list[TrackerEvent]]]
) -> None:
    events, batches = case
    try:
        for batch in batches:
            write(connection, batch)
        expected = fold(events)
        for table, rows in ((RUN, expected.runs), (STEP, expected.steps)):
            assert stored(connection, table) == plain(table, rows.values())
        assert stored(connection, ATTEMPT) == plain(ATTEMPT, expected.attempts.values())
        assert stored_payloads(connection) == set(expected.payloads)
        assert stored_refs(connection) == expected_refs(expected)
        assert stored_labels(connection) == expected_labels(expected)
        failures = stored_failures(connection)
        assert expected_failures(expected).items() <= failures.items()
        assert not misplaced_failures(connection)
    finally:
        connection.rollback()


def write(connection: psycopg.Connection[Any], events: Sequence[TrackerEvent]) -> None:
    encoded = encode(fold(events))
    sql = record.statement("flowtrail", what_follows(encoded))
    psycopg.RawCursor(connection).execute(sql, [encoded.decode()])


def stored(connection: psycopg.Connection[Row], table: Table) -> dict[UUID, Row]:
    names = SQL(", ").join(Identifier(column.name) for column in table.columns)
    query = SQL("SELECT {} FROM flowtrail.{}").format(names, Identifier(table.name))
    return {row["id"]: row for row in connection.execute(query)}


def plain(table: Table, rows: Any) -> dict[UUID, Row]:
    """Folded rows as the driver would give them."""
    return {row["id"]: {c.name: row.get(c.name) for c in table.columns} for row in rows}


def stored_payloads(connection: psycopg.Connection[Row]) -> set[UUID]:
    return {row["id"] for row in connection.execute("SELECT id FROM flowtrail.payload")}


def stored_refs(connection: psycopg.Connection[Row]) -> set[tuple[UUID, Ref, datetime]]:
    rows = connection.execute("SELECT * FROM flowtrail.run_ref")
    return {(r["run_id"], Ref(r["ref_type"], r["ref_id"]), r["ordered_at"]) for r in rows}


def expected_refs(batch: Batch) -> set[tuple[UUID, Ref, datetime]]:
    """Each ref that was ever stated, further links included, beside the run's own time."""
    links = {(run_id, ref) for run_id, ref in batch.refs}
    links |= {
        (row["id"], Ref(row["ref_type"], row["ref_id"]))
        for row in batch.runs.values()
        if row.get("ref_type") is not None
    }
    return {(run_id, ref, batch.runs[run_id]["ordered_at"]) for run_id, ref in links}


def stored_failures(connection: psycopg.Connection[Row]) -> dict[UUID, str]:
    rows = connection.execute("SELECT step_id, status FROM flowtrail.step_failure")
    return {row["step_id"]: row["status"] for row in rows}


def misplaced_failures(connection: psycopg.Connection[Row]) -> list[Row]:
    """Failures that do not say of their run what its row says."""
    return connection.execute(
        "SELECT f.* FROM flowtrail.step_failure f JOIN flowtrail.run r USING (namespace, run_key)"
        " WHERE (f.run_id, f.ordered_at, f.workflow_type)"
        " IS DISTINCT FROM (r.id, r.ordered_at, r.workflow_type)"
    ).fetchall()


def expected_failures(batch: Batch) -> dict[UUID, str]:
    """Steps with an error of their own or of an attempt, and how they stand."""
    failed = {row["id"] for row in batch.steps.values() if row.get("error_type") is not None}
    failed |= {
        row["step_id"] for row in batch.attempts.values() if row.get("error_type") is not None
    }
    return {step_id: batch.steps[step_id]["status"] for step_id in failed}


def stored_labels(connection: psycopg.Connection[Row]) -> set[tuple[UUID, str]]:
    rows = connection.execute("SELECT run_id, key FROM flowtrail.run_label")
    return {(row["run_id"], row["key"]) for row in rows}


def expected_labels(batch: Batch) -> set[tuple[UUID, str]]:
    return {
        (row["id"], key)
        for row in batch.runs.values()
        for key, value in (row.get("metadata") or {}).items()
        if isinstance(value, str | bool | int)
    }


FIRST: dict[str, Any] = {"attempt_scheduled_at": NOON}
LATER: dict[str, Any] = {"attempt_scheduled_at": NOON + timedelta(minutes=1)}
CLOSED = StepClosed(
    step=A_RUN.step(), from_history=True, status=StepStatus.COMPLETED, finished_at=NOON
)
OTHER_STEP = StepProgressed(step=A_RUN.step(key="2"), at=NOON, progress=None)
FAILED: dict[str, Any] = {
    "outcome": AttemptOutcome.FAILED,
    "closes_step": None,
    "error": Failure(type="CardDeclined", message="declined"),
}
BATCHES: dict[str, tuple[list[Any], Follows]] = {
    "a first attempt, told whole": (
        [A_RUN.attempt_started(**FIRST), A_RUN.attempt_completed()],
        "fresh steps",
    ),
    "its start": ([A_RUN.attempt_started(**FIRST)], "fresh steps"),
    "its end": ([A_RUN.attempt_completed()], "steps"),
    "one that fails": (
        [A_RUN.attempt_started(**FIRST), A_RUN.attempt_completed(**FAILED)],
        "steps",
    ),
    "a second one": ([A_RUN.attempt_started(2, **LATER), A_RUN.attempt_completed(2)], "steps"),
    "a first one after a reset": (
        [A_RUN.attempt_started(**LATER), A_RUN.attempt_completed()],
        "steps",
    ),
    "one that history tells": ([A_RUN.attempt_started(), A_RUN.attempt_completed()], "steps"),
    "one that history ends": ([A_RUN.attempt_started(**FIRST), CLOSED], "steps"),
    "beside another step": (
        [A_RUN.attempt_started(**FIRST), OTHER_STEP],
        "steps",
    ),
    "beside its run": (
        [A_RUN.started(), A_RUN.attempt_started(**FIRST), A_RUN.attempt_completed()],
        "everything",
    ),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_goes_without_what_cannot_follow_from_it(
    connection: psycopg.Connection[Row], name: str
) -> None:
    events, expected = BATCHES[name]
    encoded = encode(fold(events))
    assert what_follows(encoded) == expected
    found: list[Any] = []
    for statement in (expected, "everything"):
        try:
            psycopg.RawCursor(connection).execute(
                record.statement("flowtrail", statement), [encoded.decode()]
            )
            found.append([*(stored(connection, t) for t in (STEP, ATTEMPT)), announced(connection)])
            found[-1].append(stored_failures(connection))
        finally:
            connection.rollback()
    assert found[0] == found[1]


def test_a_batch_that_an_earlier_version_spilled_may_have_everything() -> None:
    encoded = encode(fold([A_RUN.attempt_started(**FIRST)]))
    assert what_follows(encoded.replace(b'"fresh":true,', b"")) == "everything"


def announced(connection: psycopg.Connection[Row]) -> list[Any]:
    rows = connection.execute("SELECT data FROM flowtrail.change_pending ORDER BY id")
    return [row["data"] for row in rows]


def test_labels_follow_metadata(connection: psycopg.Connection[Row]) -> None:
    run = ARun()
    changed = RunMetadataSet(
        run=run.identity, history_length=9, metadata={"color": "blue", "big": True, "deep": {}}
    )
    try:
        write(connection, [run.started(metadata={"color": "red", "gone": "x"})])
        write(connection, [changed])
        rows = connection.execute("SELECT key, value FROM flowtrail.run_label").fetchall()
        assert {row["key"]: row["value"] for row in rows} == {"color": "blue", "big": "true"}
    finally:
        connection.rollback()


def test_a_copied_memo_never_merges_two_runs(connection: psycopg.Connection[Row]) -> None:
    first, copy = ARun(), ARun()
    stolen = copy.started()
    object.__setattr__(stolen.run, "id", first.identity.id)
    try:
        write(connection, [first.started()])
        write(connection, [stolen])
        (row,) = connection.execute("SELECT run_key FROM flowtrail.run").fetchall()
        assert row["run_key"] == first.run_key
    finally:
        connection.rollback()


def test_a_worker_confirms_the_start_that_we_were_not_told_of(
    connection: psycopg.Connection[Row],
) -> None:
    run = ARun()
    accepted = """
        INSERT INTO flowtrail.run (id, namespace, engine, workflow_type, workflow_id, status,
            status_version, ordered_at, accepted_at)
        VALUES (%(id)s, 'default', 'temporal', 'OrderFulfilment', 'w', 'accepted', 0, now(), now())
    """
    waiting = """
        INSERT INTO flowtrail.outbox (id, kind, namespace, run_id, request, on_conflict,
            leased_until)
        VALUES (%(id)s, 'start', 'default', %(id)s, '', 'reject', now())
    """
    try:
        for statement in (accepted, waiting):
            connection.execute(statement, {"id": run.identity.id})
        write(connection, [run.started()])
        (row,) = connection.execute("SELECT status, run_key FROM flowtrail.run").fetchall()
        assert row == {"status": "running", "run_key": run.run_key}
        assert connection.execute("SELECT FROM flowtrail.outbox").fetchall() == []
    finally:
        connection.rollback()


def test_a_link_needs_no_other_event_of_its_run(connection: psycopg.Connection[Row]) -> None:
    run = ARun(ref=None)
    link = RunRefAdded(run=run.identity, history_length=5, ref=Ref("invoice", "i-1"), primary=True)
    try:
        write(connection, [link])
        (row,) = connection.execute("SELECT ref_type, ref_id FROM flowtrail.run").fetchall()
        assert row == {"ref_type": "invoice", "ref_id": "i-1"}
        assert len(stored_refs(connection)) == 1
    finally:
        connection.rollback()


async def test_first_sights_of_one_type_do_not_wait_for_each_other(database: str) -> None:
    """A hot row locked by each start would serialise all workers behind the slowest."""
    async with (
        await psycopg.AsyncConnection.connect(database) as slow,
        await psycopg.AsyncConnection.connect(database, autocommit=True) as other,
    ):
        await record.write_batch(other, "flowtrail", fold([ARun().started()]))
        await record.write_batch(slow, "flowtrail", fold([ARun().started()]))
        async with asyncio.timeout(5):
            await record.write_batch(other, "flowtrail", fold([ARun().started()]))
        await slow.rollback()
