"""Failed steps, their groups, and figures over a window, against rows that the recorder wrote."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.factories import ARun
from tracker.core.events import Failure, TrackerEvent
from tracker.core.fold import fold
from tracker.core.status import AttemptOutcome, RunStatus, StepStatus
from tracker.errors import InvalidRequest
from tracker.models.filters import RunFilter
from tracker.models.search import FailureFilter, StatsFilter, StepFilter
from tracker.store import search, workflow_stats
from tracker.store.database import Database
from tracker.store.record import write_batch
from tracker.store.run_queries import list_runs

NOW = datetime.now(UTC).replace(microsecond=0)


def a_run(minutes: int, **details: Any) -> ARun:
    return ARun(started_at=NOW - timedelta(minutes=minutes), **details)


async def write(store: Database, *events: TrackerEvent) -> None:
    async with store.connection() as connection:
        await write_batch(connection, store.options.schema, fold(list(events)))


def failed(
    run: ARun, message: str, *, type_: str = "GatewayBusy", number: int = 1, final: bool = False
) -> list[TrackerEvent]:
    error = Failure(type=type_, message=message)
    details: dict[str, Any] = {"outcome": AttemptOutcome.FAILED, "error": error, "output": None}
    details["closes_step"] = StepStatus.FAILED if final else None
    return [
        run.attempt_started(number, build_id="build-1"),
        run.attempt_completed(number, **details),
    ]


async def steps(store: Database, **filters: Any) -> list[Any]:
    return (await search.failed_steps(store, "default", StepFilter(**filters))).steps


async def groups(store: Database, **filters: Any) -> list[Any]:
    return (await search.failures(store, "default", FailureFilter(**filters))).groups


async def test_what_is_failing_now_and_what_has_failed(store: Database) -> None:
    trying, gave_up, recovered, fine = (a_run(m) for m in (1, 2, 3, 4))
    await write(store, trying.started(), *failed(trying, "busy"), *failed(trying, "busy", number=2))
    await write(store, gave_up.started(), *failed(gave_up, "no", type_="Declined", final=True))
    await write(store, recovered.started(), *failed(recovered, "busy"))
    await write(store, recovered.attempt_started(2), recovered.attempt_completed(2))
    await write(store, fine.started(), fine.attempt_started(), fine.attempt_completed())

    [now] = await steps(store, status=["scheduled", "started"])
    assert (now.run_id, now.name, now.attempts) == (trying.identity.id, "charge", 2)
    assert (now.error_type, now.error_message, now.build_id) == ("GatewayBusy", "busy", "build-1")
    assert (now.workflow_type, now.ref_id) == ("OrderFulfilment", "o-1")
    [ended] = await steps(store, status=["failed"])
    assert (ended.run_id, ended.error_type) == (gave_up.identity.id, "Declined")
    everything = await steps(store)
    assert [s.run_id for s in everything] == [
        run.identity.id for run in (trying, gave_up, recovered)
    ]
    assert everything[2].status is StepStatus.COMPLETED
    assert await steps(store, min_attempts=3) == []
    assert [s.run_id for s in await steps(store, error_type="Declined")] == [gave_up.identity.id]


async def test_pages_of_steps(store: Database) -> None:
    runs = [a_run(minutes) for minutes in range(1, 8)]
    for run in runs:
        await write(store, run.started(), *failed(run, "busy"))
    found, cursor = [], None
    while True:
        page = await search.failed_steps(
            store, "default", StepFilter(limit=3, cursor=cursor, name="charge")
        )
        found += [step.run_id for step in page.steps]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == [run.identity.id for run in runs]
    first = await search.failed_steps(store, "default", StepFilter(limit=3))
    with pytest.raises(InvalidRequest, match="other filters"):
        await search.failed_steps(
            store, "default", StepFilter(name="charge", cursor=first.next_cursor)
        )


async def test_words_of_a_message(store: Database) -> None:
    one, other = a_run(1), a_run(2)
    await write(store, one.started(), *failed(one, "the payment gateway is busy"))
    await write(store, other.started(), *failed(other, "no such address"))
    for text, wanted in (
        ("gateway busy", [one]),
        ('"payment gateway"', [one]),
        ("GATEWAY or address", [one, other]),
        ("-gateway", [other]),
        ("gate", []),
        ("'; DROP TABLE run; --", []),
    ):
        found = [step.run_id for step in await steps(store, error_text=text)]
        assert found == [run.identity.id for run in wanted], text
    assert [g.message for g in await groups(store, error_text="address")] == ["no such address"]


async def test_failures_that_differ_in_ids_and_numbers_are_one_group(store: Database) -> None:
    same = [a_run(minutes) for minutes in (1, 2, 3)]
    for number, run in enumerate(same):
        message = f"order {uuid4()} at 10.0.0.{number}:80{number} gone after {number}.5 s"
        await write(store, run.started(), *failed(run, message, final=number == 2))
    other = a_run(4)
    await write(store, other.started(), *failed(other, "no", type_="Declined", final=True))
    old = a_run(60 * 30)
    await write(store, old.started(), *failed(old, "no", type_="Declined", final=True))

    first, second = await groups(store)
    assert (first.steps, first.runs, first.failed, first.retrying) == (3, 3, 1, 2)
    assert (first.error_type, first.name, first.build_ids) == ("GatewayBusy", "charge", ["build-1"])
    assert first.message.endswith("gone after 0.5 s")
    assert first.workflow_types == ["OrderFulfilment"]
    assert first.first_failed_at < first.failed_at
    assert (second.steps, second.error_type) == (1, "Declined")
    assert [g.steps for g in await groups(store, window=2 * 86_400)] == [3, 2]

    page = await list_runs(store, "default", RunFilter(failure=first.failure))
    assert [run.run_id for run in page.runs] == [run.identity.id for run in same]
    assert {s.run_id for s in await steps(store, failure=first.failure)} == {
        run.identity.id for run in same
    }


async def test_groups_say_when_they_are_a_sample(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SAMPLE", 2)
    runs = [a_run(minutes) for minutes in (1, 2, 3)]
    for run in runs:
        await write(store, run.started(), *failed(run, "busy"))
    told = await search.failures(store, "default", FailureFilter())
    assert (told.sampled, told.truncated) == (2, True)
    assert NOW - timedelta(minutes=3) < told.since < NOW - timedelta(minutes=1)


async def test_a_step_that_is_reset_and_completes_is_not_failing_any_more(store: Database) -> None:
    run = a_run(5)
    await write(store, run.started(), *failed(run, "busy"))
    # After a reset the numbers begin again; the row of the attempt is another.
    again = ARun(started_at=NOW - timedelta(minutes=4), run_key=run.run_key)
    await write(
        store,
        again.attempt_started(1, scheduled_at=run.started_at),
        again.attempt_completed(1),
    )
    assert await steps(store, status=["scheduled", "started"]) == []
    assert len(await steps(store, status=["completed"])) == 1


async def test_how_long_runs_and_steps_take(store: Database) -> None:
    for minutes in range(1, 5):
        run = a_run(minutes)
        await write(
            store,
            run.started(),
            *failed(run, "busy"),
            run.attempt_started(3),
            run.attempt_completed(3),
            run.closed(RunStatus.FAILED if minutes == 1 else RunStatus.COMPLETED),
        )
    for workflow_type in (None, "OrderFulfilment"):
        told = await workflow_stats.workflow_stats(
            store, "default", StatsFilter(workflow_type=workflow_type)
        )
        [of_type] = told.workflow_types
        assert (of_type.runs, of_type.failed, of_type.failure_rate) == (4, 1, 0.25)
        assert of_type.duration.p50 == 9
        [step] = told.steps
        assert (step.name, step.steps, step.attempts) == ("charge", 4, 3)
        # Scheduled at 0, begun at 1 and at 3, each try as long as the factory makes it.
        assert step.queue.p50 == 1
        assert step.execution.p50 is not None
        assert step.backoff.p50 is not None
        assert step.duration.p50 == pytest.approx(
            step.queue.p50 + step.execution.p50 + step.backoff.p50
        )
        assert not told.truncated
    none = await workflow_stats.workflow_stats(store, "default", StatsFilter(workflow_type="No"))
    assert (none.sampled, none.workflow_types, none.steps) == (0, [], [])


async def test_the_graph_of_a_type(store: Database) -> None:
    for minutes in (1, 2, 3):
        run = a_run(minutes)
        charge, ship = run.attempt(1), run.attempt(4, "ship", "2")
        events: list[TrackerEvent] = [
            run.started(),
            run.attempt_started(1),
            run.attempt_completed(1),
        ]
        if minutes > 1:
            at = charge.started_at + timedelta(seconds=2)
            events += [
                run.attempt_started(attempt=ship, scheduled_at=at, type="ship"),
                run.attempt_completed(attempt=ship, finished_at=ship.started_at),
            ]
        await write(store, *events, run.closed())
    graph = await workflow_stats.workflow_graph(store, "default", "OrderFulfilment", 86_400)
    assert graph.runs == 3
    assert [(node.name, node.steps) for node in graph.nodes] == [("charge", 3), ("ship", 2)]
    edges = {(edge.source, edge.target): edge.transitions for edge in graph.edges}
    assert edges == {
        (None, "charge"): 3,
        ("charge", "ship"): 2,
        ("ship", None): 2,
        ("charge", None): 1,
    }
    empty = await workflow_stats.workflow_graph(store, "default", "Absent", 86_400)
    assert (empty.runs, empty.nodes, empty.edges) == (0, [], [])
