"""What is purged, held and erased, on rows: who is left out, and that nothing comes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.factories import ARun
from tests.starts import accepted, count, encoded, rows
from tracker.core.events import Failure, TrackerEvent
from tracker.core.fold import fold
from tracker.core.ids import Ref, new_id
from tracker.core.payloads import StoredPayload, Treatment
from tracker.core.status import AttemptOutcome, RunStatus, StepStatus
from tracker.errors import Conflict, NotFound
from tracker.store import holds
from tracker.store.database import Database, dedicated
from tracker.store.erase import erase
from tracker.store.partitions import Month, ensure_partitions
from tracker.store.purge import PurgeOrder, PurgePolicy, PurgeReport, purge
from tracker.store.record import write_batch

LONG_AGO = datetime(2025, 1, 15, 12, tzinfo=UTC)
MARCH = datetime(2025, 3, 1, 2, tzinfo=UTC)
SECRET = "s3cret"
NAMESPACE = "default"


def value(text: str = SECRET) -> StoredPayload:
    body = f'["{text}"]'.encode()
    return StoredPayload(text.encode().ljust(32), len(body), Treatment.FULL, "json/plain", body)


def told(run: ARun, *, from_history: bool = True) -> list[Any]:
    """A run with a step that failed once, everything about it secret."""
    error = Failure(type="Declined", message=SECRET, stack=SECRET)
    failed = run.attempt_completed(outcome=AttemptOutcome.FAILED, error=error, closes_step=None)
    return [
        run.started(input=value(), metadata={"who": SECRET}, from_history=from_history),
        run.attempt_started(input=value("input")),
        failed,
        run.closed(RunStatus.FAILED, error=error, from_history=from_history),
    ]


async def record(store: Database, *events: TrackerEvent) -> None:
    async with dedicated(store.options) as connection:
        await write_batch(connection, "flowtrail", fold(events))


def a_run(**fields: Any) -> ARun:
    at: datetime = fields.pop("started_at", LONG_AGO)
    return ARun(started_at=at, run_key=new_id(int(at.timestamp() * 1000)), **fields)


def purged(
    store: Database,
    policy: PurgePolicy = PurgePolicy.VERDICT,
    before: datetime = MARCH,
    **more: Any,
) -> PurgeReport:
    return purge(store.options, PurgeOrder(NAMESPACE, before, policy, **more))


async def secrets(store: Database) -> set[str]:
    """Tables in which the secret still stands."""
    found: set[str] = set()
    for table in ("run", "step", "attempt", "payload", "run_label", "workflow", "outbox"):
        sql = f"SELECT to_jsonb(t)::text AS told FROM {{schema}}.{table} t"
        if any(SECRET in row["told"] for row in await rows(store, sql)):
            found.add(table)
    return found


async def test_the_verdict_stays_and_the_values_go(store: Database) -> None:
    await record(store, *told(a_run()))
    dry = purged(store, dry_run=True)
    assert await count(store, "payload") == 2
    done = purged(store)
    assert (dry.runs, dry.payloads, dry.bytes) == (done.runs, done.payloads, done.bytes)
    assert (done.runs, done.payloads) == (1, 2)
    assert await count(store, "payload") == 0
    [run] = await rows(store, "SELECT status, payloads_purged_at, error_message FROM {schema}.run")
    assert (run["status"], run["error_message"]) == ("failed", SECRET)
    assert run["payloads_purged_at"] is not None
    assert purged(store).runs == 0


async def test_delete_leaves_nothing_of_a_run(store: Database) -> None:
    await record(store, *told(a_run()))
    kept = a_run(started_at=MARCH + timedelta(days=1))
    await record(store, *told(kept))
    done = purged(store, PurgePolicy.DELETE)
    assert (done.runs, done.steps, done.attempts, done.payloads) == (1, 1, 1, 2)
    for table in ("run", "step", "attempt"):
        assert await count(store, table) == 1, table
    assert {r["id"] for r in await rows(store, "SELECT id FROM {schema}.run")} == {kept.identity.id}


async def test_who_is_left_out_and_why(store: Database) -> None:
    held, live, waiting, other, running = (a_run(ref=Ref("order", str(n))) for n in range(5))
    other = replace(other, workflow_type="Invoice")
    for run in (held, waiting, other):
        await record(store, *told(run))
    await record(store, *told(live, from_history=False))
    await record(store, running.started())
    await holds.add_hold(store, NAMESPACE, Ref("order", "0"), "a lawsuit", "me")
    await accepted(store, encoded())
    await rows(
        store, "UPDATE {schema}.outbox SET run_id = %(id)s RETURNING 1", id=waiting.identity.id
    )
    done = purged(store, PurgePolicy.DELETE, workflow_types=("OrderFulfilment",))
    assert (done.runs, done.held, done.unverified) == (0, 1, 1)
    assert purged(store, PurgePolicy.DELETE).runs == 1
    assert purged(store, PurgePolicy.DELETE, force=True).runs == 1
    await holds.remove_hold(store, NAMESPACE, Ref("order", "0"))
    assert purged(store, PurgePolicy.DELETE).runs == 1
    left = {row["id"] for row in await rows(store, "SELECT id FROM {schema}.run")}
    assert {waiting.identity.id, running.identity.id} <= left


async def test_a_month_is_dropped_at_once_if_nobody_needs_it(store: Database) -> None:
    with psycopg.connect(store.options.dsn, autocommit=True) as owner:
        ensure_partitions(owner, now=LONG_AGO, months_ahead=0)
    month = Month.of(LONG_AGO).partition
    await record(store, *told(a_run()))
    still_open = a_run(ref=Ref("order", "open"))
    await record(store, still_open.started(input=value("open")))
    assert month not in purged(store).partitions
    assert await count(store, "payload") == 1

    later = still_open.closed(finished_at=LONG_AGO + timedelta(days=1), from_history=True)
    await record(store, later)
    elsewhere = replace(a_run(), namespace="other")
    await record(store, *told(elsewhere))
    assert month not in purged(store, dry_run=True).partitions
    await rows(store, "DELETE FROM {schema}.run WHERE namespace = 'other' RETURNING 1")
    done = purged(store)
    assert month in done.partitions
    assert await count(store, "payload") == 0
    [horizon] = await rows(store, "SELECT max(dropped_before) AS at FROM {schema}.payload_horizon")
    assert horizon["at"] >= datetime(2025, 2, 1, tzinfo=UTC)


EARLY = datetime(2025, 1, 5, tzinfo=UTC)
FEBRUARY = datetime(2025, 2, 10, tzinfo=UTC)


@pytest.mark.parametrize("kind", ["of the month", "just before it", "long", "clocks apart", "open"])
async def test_a_month_is_kept_for_a_run_that_came_after_the_month_before_was_dropped(
    store: Database, kind: str
) -> None:
    with psycopg.connect(store.options.dsn, autocommit=True) as owner:
        ensure_partitions(owner, now=FEBRUARY, months_ahead=0)
    await record(store, *told(a_run()))
    done = purged(store, before=datetime(2025, 2, 1, 2, tzinfo=UTC))
    assert Month.of(LONG_AGO).partition in done.partitions
    began = {"of the month": FEBRUARY, "just before it": datetime(2025, 1, 31, 23, tzinfo=UTC)}
    ref = Ref("order", "held")
    run = a_run(started_at=began.get(kind, EARLY), ref=ref)
    ended = run.closed(finished_at=FEBRUARY + timedelta(days=1), from_history=True)
    await record(store, run.started(), *([] if kind == "open" else [ended]))
    if kind == "clocks apart":
        await rows(
            store,
            "UPDATE {schema}.run SET started_at = finished_at - interval '1 s' WHERE id = %(id)s"
            " RETURNING 1",
            id=run.identity.id,
        )
    if kind != "open":
        await holds.add_hold(store, NAMESPACE, ref, "a lawsuit", "me")
    month = Month.of(FEBRUARY).partition
    assert month not in purged(store).partitions
    if kind == "open":
        await record(store, ended)
    else:
        await holds.remove_hold(store, NAMESPACE, ref)
    assert month in purged(store).partitions


async def test_values_that_came_after_their_month_was_dropped_go_one_by_one(
    store: Database,
) -> None:
    with psycopg.connect(store.options.dsn, autocommit=True) as owner:
        ensure_partitions(owner, now=LONG_AGO, months_ahead=0)
    await record(store, *told(a_run()))
    done = purged(store)
    assert (done.runs, Month.of(LONG_AGO).partition in done.partitions) == (0, True)
    await record(store, *told(a_run(ref=Ref("order", "late"))))
    assert await count(store, "payload") == 2
    assert purged(store).payloads == 2
    with psycopg.connect(store.options.dsn, autocommit=True) as owner:
        ensure_partitions(owner, now=LONG_AGO, months_ahead=0)
    await record(store, *told(a_run(ref=Ref("order", "later"))))
    purged(store)
    assert await count(store, "payload") == 0


async def test_an_erased_ref_is_empty_and_stays_so(store: Database) -> None:
    run, other = a_run(), a_run(ref=Ref("order", "other"))
    await record(store, *told(run))
    await record(store, *told(other))
    done = await erase(store, NAMESPACE, Ref("order", "o-1"))
    assert (done.run_ids, done.before, done.payloads) == ((run.identity.id,), 0, 2)

    async def is_empty(run_id: UUID) -> bool:
        sql = (
            "SELECT concat(to_jsonb(r), jsonb_agg(to_jsonb(s)), jsonb_agg(to_jsonb(a))) AS told"
            " FROM {schema}.run r JOIN {schema}.step s USING (namespace, run_key)"
            " JOIN {schema}.attempt a ON a.step_id = s.id WHERE r.id = %(id)s GROUP BY r.*"
        )
        [row] = await rows(store, sql, id=run_id)
        return SECRET not in row["told"] and '"failed"' in row["told"]

    assert await is_empty(run.identity.id)
    # Whatever comes late: a spill file, a worker that was cut off, history.
    await record(store, *told(run))
    late = run.attempt_completed(
        outcome=AttemptOutcome.FAILED,
        error=Failure(type="Late", message=SECRET),
        closes_step=StepStatus.FAILED,
        finished_at=LONG_AGO + timedelta(hours=1),
    )
    await record(store, late)
    assert await is_empty(run.identity.id)
    assert await count(store, "payload") == 2
    labels = await rows(store, "SELECT run_id FROM {schema}.run_label")
    assert {row["run_id"] for row in labels} == {other.identity.id}
    again = await erase(store, NAMESPACE, Ref("order", "o-1"))
    assert (again.run_ids, again.before) == ((), 1)
    await erase(store, NAMESPACE, Ref("order", "other"))
    assert await secrets(store) == set()


async def test_an_erasure_is_refused_as_a_whole(store: Database) -> None:
    closed, still_open = a_run(), a_run()
    await record(store, *told(closed))
    with pytest.raises(NotFound):
        await erase(store, NAMESPACE, Ref("order", "nobody"))
    await record(store, still_open.started())
    with pytest.raises(Conflict, match="terminate it first"):
        await erase(store, NAMESPACE, Ref("order", "o-1"))
    await record(store, still_open.closed(from_history=True))
    await holds.add_hold(store, NAMESPACE, Ref("order", "o-1"), "a lawsuit", "me")
    with pytest.raises(Conflict, match="legal hold by order/o-1"):
        await erase(store, NAMESPACE, Ref("order", "o-1"))
    assert "payload" in await secrets(store)
