"""Accepted starts under way: leases, how tries end, and cancels against both."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.starts import NAMESPACE, a_leased_start, accepted, count, encoded, rows, run_row
from tracker.core.events import RunClosed, RunIdentity, RunStarted
from tracker.core.fold import fold
from tracker.core.ids import new_id
from tracker.core.status import RunStatus
from tracker.errors import NotFound
from tracker.outbox.transactional import insert_start
from tracker.store import outbox
from tracker.store.accept import AcceptedStart
from tracker.store.database import Database
from tracker.store.outbox import CancelDecision, LeasedStart
from tracker.store.record import write_batch
from tracker.store.run_rows import run_read


async def leased(store: Database, **fields: Any) -> LeasedStart:
    """A start that was accepted and is ours now."""
    start = encoded(**fields)
    await accepted(store, start)
    entry = await a_leased_start(store)
    assert entry.id == start.id
    return entry


async def recorded(store: Database, *events: RunStarted | RunClosed) -> None:
    async with store.connection() as connection:
        await write_batch(connection, "flowtrail", fold(events))


def as_a_worker_sees_it(start: AcceptedStart | LeasedStart, run_key: UUID) -> RunIdentity:
    return RunIdentity(
        id=start.id,
        namespace=NAMESPACE,
        run_key=run_key,
        workflow_type="OrderFulfilment",
        workflow_id=f"OrderFulfilment/{start.id}",
        task_queue="orders",
        first_run_key=run_key,
        started_at=datetime.now(UTC),
    )


async def test_a_lease_keeps_others_away_until_it_ends(store: Database) -> None:
    start = encoded()
    await accepted(store, start)

    [entry] = await outbox.lease(store, NAMESPACE, limit=10, seconds=0.2)
    assert (entry.id, entry.tries, entry.request) == (start.id, 1, start.request)
    assert await outbox.lease(store, NAMESPACE, limit=10, seconds=1) == []

    [row] = await rows(store, "SELECT leased_until FROM {schema}.outbox")
    await rows(store, "SELECT pg_sleep_until(%(until)s)::text AS slept", until=row["leased_until"])
    [again] = await outbox.lease(store, NAMESPACE, limit=10, seconds=1)
    assert (again.id, again.tries) == (start.id, 2)


async def test_what_the_facade_holds_is_not_due(store: Database) -> None:
    await accepted(store, encoded(), lease=10)
    assert await outbox.lease(store, NAMESPACE, limit=10, seconds=1) == []


async def test_other_namespaces_are_left_alone(store: Database) -> None:
    await accepted(store, encoded("elsewhere"))
    assert await outbox.lease(store, NAMESPACE, limit=10, seconds=1) == []


async def test_many_relays_never_get_the_same_start(store: Database) -> None:
    starts = [encoded() for _ in range(40)]
    for start in starts:
        await accepted(store, start)

    taken = await asyncio.gather(
        *(outbox.lease(store, NAMESPACE, limit=7, seconds=30) for _ in range(8))
    )
    ids = [entry.id for entries in taken for entry in entries]
    assert len(ids) == len(set(ids)) == 40
    assert set(ids) == {start.id for start in starts}


async def test_finish_binds_the_run(store: Database) -> None:
    entry, run_key = await leased(store), new_id()
    finished = await outbox.finish(store, entry, run_key)

    assert finished is not None
    assert not finished.cancel_requested
    row = await run_row(store, entry.id)
    assert run_read(finished.run) == run_read(row)
    assert row["status"] == "running"
    assert row["run_key"] == row["first_run_key"] == run_key
    assert row["started_at"] >= row["accepted_at"]
    assert await count(store, "outbox") == 0


async def test_finish_may_come_twice_and_after_the_worker(store: Database) -> None:
    entry, run_key = await leased(store), new_id()
    run = as_a_worker_sees_it(entry, run_key)
    closed = RunClosed(
        run=run, history_length=9, status=RunStatus.COMPLETED, finished_at=datetime.now(UTC)
    )
    await recorded(store, RunStarted(run=run, history_length=3), closed)
    assert await count(store, "outbox") == 0

    for _ in range(2):
        assert await outbox.finish(store, entry, run_key) is not None
    row = await run_row(store, entry.id)
    assert row["status"] == "completed"
    assert row["started_at"] == run.started_at


async def test_the_provisional_start_time_yields_to_the_true_one(store: Database) -> None:
    entry = await leased(store)
    run_key = new_id()
    await outbox.finish(store, entry, run_key)
    true = datetime.fromtimestamp((run_key.int >> 80) / 1000, UTC) + timedelta(microseconds=700)
    run = as_a_worker_sees_it(entry, run_key)

    await recorded(store, RunStarted(run=replace(run, started_at=true), history_length=3))
    assert (await run_row(store, entry.id))["started_at"] == true


async def test_a_run_id_without_time_gets_the_databases(store: Database) -> None:
    entry = await leased(store)
    await outbox.finish(store, entry, uuid4())
    row = await run_row(store, entry.id)
    assert row["accepted_at"] <= row["started_at"] <= row["accepted_at"] + timedelta(seconds=5)


async def test_finish_gives_way_to_a_row_that_stands_for_the_run_already(store: Database) -> None:
    entry, run_key = await leased(store), new_id()
    stranger = as_a_worker_sees_it(encoded(), run_key)
    await recorded(store, RunStarted(run=stranger, history_length=3))

    assert await outbox.finish(store, entry, run_key) is None
    assert await outbox.run_of_key(store, NAMESPACE, run_key) == stranger.id


async def test_the_first_started_run_of_a_ref_makes_its_workflow(store: Database) -> None:
    start = encoded(ref_type="order", ref_id="o-1", metadata={"a": 1})
    with psycopg.connect(store.options.dsn) as connection:
        insert_start(connection, start)
    assert await count(store, "workflow") == 0

    entry = await a_leased_start(store)
    await outbox.finish(store, entry, new_id())
    [workflow] = await rows(store, "SELECT ref_id, metadata, created_at FROM {schema}.workflow")
    assert (workflow["ref_id"], workflow["metadata"]) == ("o-1", {"a": 1})
    assert workflow["created_at"] == (await run_row(store, start.id))["ordered_at"]


async def test_reject_closes_the_run(store: Database) -> None:
    entry, other = await leased(store), new_id()
    await outbox.reject(store, entry, "InvalidArgument", "no such thing", duplicate_of=other)

    row = await run_row(store, entry.id)
    assert (row["status"], row["error_type"]) == ("rejected", "InvalidArgument")
    assert (row["error_message"], row["duplicate_of"]) == ("no such thing", other)
    assert row["finished_at"] >= row["accepted_at"]
    assert await count(store, "outbox") == 0


async def test_a_run_that_runs_is_not_rejected(store: Database) -> None:
    entry, run_key = await leased(store), new_id()
    await outbox.finish(store, entry, run_key)
    assert await outbox.reject(store, entry, "InvalidArgument", "late") is None
    assert (await run_row(store, entry.id))["status"] == "running"


async def test_a_rejected_run_that_runs_after_all_is_open_again(store: Database) -> None:
    entry, run_key = await leased(store), new_id()
    await outbox.reject(store, entry, "InvalidArgument", "wrong")
    await outbox.finish(store, entry, run_key)

    row = await run_row(store, entry.id)
    assert (row["status"], row["finished_at"], row["error_type"]) == ("running", None, None)


async def test_put_back_with_growing_pauses(store: Database) -> None:
    entry = await leased(store)
    delay = await outbox.put_back(store, entry, "Temporal is away")

    assert 0.5 <= delay <= 1
    [row] = await rows(
        store,
        "SELECT last_error, leased_until - now() <= interval '1 s' AS soon FROM {schema}.outbox",
    )
    assert row == {"last_error": "Temporal is away", "soon": True}
    assert [30 <= outbox.backoff(tries) <= 60 for tries in (7, 20, 5000)] == [True] * 3


async def test_put_back_does_not_take_the_lease_of_the_next(store: Database) -> None:
    start = encoded()
    await accepted(store, start)
    first = await a_leased_start(store, seconds=0)
    second = await a_leased_start(store)
    await outbox.put_back(store, first, "slow")

    [row] = await rows(store, "SELECT tries, last_error FROM {schema}.outbox")
    assert row == {"tries": second.tries, "last_error": None}


async def test_cancel_of_a_start_that_nobody_tried(store: Database) -> None:
    start = encoded()
    await accepted(store, start)

    assert await outbox.cancel(store, start.id) is CancelDecision.CANCELED
    row = await run_row(store, start.id)
    assert (row["status"], row["finished_at"] is None) == ("canceled", False)
    assert await outbox.lease(store, NAMESPACE, limit=1, seconds=1) == []
    assert await outbox.cancel(store, start.id) is CancelDecision.NOT_PENDING


async def test_cancel_of_a_start_under_way_is_left_to_who_ends_it(store: Database) -> None:
    entry, run_key = await leased(store), new_id()
    assert await outbox.cancel(store, entry.id) is CancelDecision.REQUESTED

    finished = await outbox.finish(store, entry, run_key)
    assert finished is not None
    assert finished.cancel_requested
    assert await count(store, "outbox") == 1
    await outbox.discard(store, entry)
    assert (await run_row(store, entry.id))["status"] == "running"


async def test_the_next_lease_tells_of_the_cancel(store: Database) -> None:
    start = encoded()
    await accepted(store, start)
    await outbox.lease(store, NAMESPACE, limit=1, seconds=0)
    await outbox.cancel(store, start.id)

    entry = await a_leased_start(store)
    assert entry.cancel_requested
    await outbox.mark_canceled(store, entry)
    assert (await run_row(store, start.id))["status"] == "canceled"
    assert await count(store, "outbox") == 0


async def test_a_workers_word_does_not_swallow_a_cancel(store: Database) -> None:
    entry, run_key = await leased(store), new_id()
    await outbox.cancel(store, entry.id)
    run = as_a_worker_sees_it(entry, run_key)
    await recorded(store, RunStarted(run=run, history_length=3))

    finished = await outbox.finish(store, entry, run_key)
    assert finished is not None
    assert finished.cancel_requested


async def test_cancel_and_finish_at_once_never_lose_the_cancel(store: Database) -> None:
    for _ in range(15):
        entry = await leased(store)
        decision, finished = await asyncio.gather(
            outbox.cancel(store, entry.id), outbox.finish(store, entry, new_id())
        )
        assert finished is not None
        # Either the finisher is told, or the canceler finds a run that Temporal knows.
        assert finished.cancel_requested == (decision is CancelDecision.REQUESTED)
        await outbox.discard(store, entry)


async def test_cancel_of_an_unknown_run(store: Database) -> None:
    with pytest.raises(NotFound):
        await outbox.cancel(store, uuid4())


async def test_adopt_records_a_run_of_others_once(store: Database) -> None:
    run_key = new_id()
    run = as_a_worker_sees_it(encoded(), run_key)
    assert await outbox.adopt(store, run) == run.id
    again = as_a_worker_sees_it(encoded(), run_key)
    assert await outbox.adopt(store, again) == run.id

    row = await run_row(store, run.id)
    assert (row["status"], row["run_key"], row["started_at"]) == (
        "running",
        run_key,
        run.started_at,
    )
    assert await count(store, "run") == 1
