"""A few runs of March 2026 about which every query of docs/sql.md has something to say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tests.factories import NOON, ARun
from tracker.core.events import AttemptEnded, Failure, RunRefAdded, StepStarted, TrackerEvent
from tracker.core.fold import fold
from tracker.core.ids import Ref, event_key
from tracker.core.payloads import Handling, Treatment, store_json
from tracker.core.status import AttemptOutcome, RunStatus, StepKind, StepStatus
from tracker.store.database import Database
from tracker.store.record import write_batch

INPUT = store_json(b'[{"order_id":"o-123","amount":5}]', Handling(Treatment.FULL), "input")
NO_FUNDS = Failure(type="CardDeclined", message="the bank declined the card", non_retryable=True)
AWAY = Failure(type="ConnectionError", message="bank away", stack="charge.py, line 12")

SHOP = """
CREATE SCHEMA shop;
CREATE TABLE shop.orders (id text PRIMARY KEY, placed_at timestamptz NOT NULL);
INSERT INTO shop.orders SELECT format('o-%s', n), '2026-03-01' FROM generate_series(123, 130) n;
"""

WAITING_START = """
WITH waiting AS (
    INSERT INTO flowtrail.run (id, namespace, engine, workflow_type, workflow_id, status,
                               status_version, ordered_at, accepted_at)
    VALUES (gen_random_uuid(), 'default', 'temporal', 'OrderFulfilment', 'w', 'accepted', 0,
            now(), now())
    RETURNING id
)
INSERT INTO flowtrail.outbox (id, kind, namespace, run_id, request, on_conflict, leased_until)
SELECT id, 'start', 'default', id, '', 'reject', now() FROM waiting
"""


RERUN = """
UPDATE flowtrail.run SET rerun_of = (SELECT id FROM flowtrail.run WHERE status = 'failed' LIMIT 1)
WHERE status = 'completed'
"""


async def write_sample(database: Database) -> None:
    """Fill a migrated, empty database."""
    events = [*_fulfilled("o-123"), *_failed("o-123"), *_failed("o-124"), *_open("o-125")]
    async with database.connection() as connection:
        await write_batch(connection, "flowtrail", fold(events), prepare=False)
        for statement in (*SHOP.strip().split(";\n"), WAITING_START, RERUN):
            await connection.execute(statement.encode())


def _run(order: str, days: int) -> ARun:
    return ARun(ref=Ref("order", order), started_at=NOON + timedelta(days=days))


def _started(run: ARun) -> list[TrackerEvent]:
    metadata = {"department": "retail", "vip": True}
    return [
        run.started(metadata=metadata, input=INPUT, worker_identity="1@host", build_id="b7"),
        run.attempt_started(
            1,
            input=INPUT,
            worker_identity="1@host",
            build_id="b7",
            task_queue="orders",
            attempt_scheduled_at=run.started_at,
        ),
    ]


def _tried(run: ARun, number: int, error: Failure | None, **details: Any) -> AttemptEnded:
    attempt = run.attempt(number)
    return AttemptEnded(
        attempt=attempt,
        outcome=AttemptOutcome.FAILED if error else AttemptOutcome.COMPLETED,
        finished_at=attempt.started_at + timedelta(milliseconds=300),
        error=error,
        **details,
    )


def _fulfilled(order: str) -> list[TrackerEvent]:
    run = _run(order, 1)
    return [
        *_started(run),
        _tried(run, 1, AWAY, next_retry_at=run.attempt(2).started_at),
        run.attempt_started(2, worker_identity="1@host", build_id="b7"),
        _tried(run, 2, None, closes_step=StepStatus.COMPLETED, output=INPUT),
        RunRefAdded(run=run.identity, history_length=9, ref=Ref("payment", "p-1")),
        run.closed(RunStatus.COMPLETED, output=INPUT),
    ]


def _failed(order: str) -> list[TrackerEvent]:
    run = _run(order, 2)
    return [
        *_started(run),
        _tried(run, 1, NO_FUNDS, closes_step=StepStatus.FAILED),
        run.closed(RunStatus.FAILED, error=NO_FUNDS),
    ]


def _open(order: str) -> list[TrackerEvent]:
    run = _run(order, 3)
    timer = run.step("timer", event_key(5))
    return [
        *_started(run),
        _tried(run, 1, AWAY, next_retry_at=run.attempt(2).started_at),
        StepStarted(
            step=type(timer)(
                namespace=timer.namespace,
                run_key=timer.run_key,
                kind=StepKind.TIMER,
                step_key=timer.step_key,
                name="grace",
            ),
            type="timer",
            started_at=run.started_at,
            detail={"fires_at": "2026-03-05T12:00:00+00:00"},
        ),
    ]
