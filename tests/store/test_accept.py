"""Taking in a start: all its rows or none, once for each idempotency key."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest

from tests.starts import accepted, count, encoded, request, rows, run_row
from tracker.core.payloads import PayloadPolicy, Treatment
from tracker.errors import IdempotencyConflict
from tracker.migrations import grants_sql
from tracker.models.wire import StartRun
from tracker.store.accept import Accepted, ExistingRun, accept
from tracker.store.database import Database
from tracker.store.run_rows import run_read
from tracker.temporal.start_encoder import StartEncoder


async def test_every_row_of_a_start(store: Database) -> None:
    metadata = {"department": "sales", "amount": 12.50, "rush": True, "tags": ["a"], "none": None}
    start = encoded(ref_type="order", ref_id="o-1", metadata=metadata)
    before = datetime.now(UTC)

    outcome = await accepted(store, start, lease=10)

    assert isinstance(outcome, Accepted)
    row = await run_row(store, start.id)
    assert run_read(outcome.run) == run_read(row)
    assert row["status"] == "accepted"
    assert row["status_version"] == 0
    assert row["ordered_at"] == row["accepted_at"]
    assert abs(row["accepted_at"] - before) < timedelta(seconds=5)
    assert row["workflow_id"] == f"OrderFulfilment/{start.id}"
    assert (row["ref_type"], row["ref_id"], row["ref_version"]) == ("order", "o-1", 3)
    assert row["run_key"] is None
    [payload] = await rows(store, "SELECT * FROM {schema}.payload")
    assert payload["id"] == row["input_id"]
    assert payload["body"] == [{"order": "o-1"}]
    labels = await rows(store, "SELECT key, value FROM {schema}.run_label ORDER BY key")
    assert [tuple(label.values()) for label in labels] == [
        ("amount", "12.5"),
        ("department", "sales"),
        ("rush", "true"),
    ]
    [ref] = await rows(store, "SELECT run_id, ordered_at FROM {schema}.run_ref")
    assert ref == {"run_id": start.id, "ordered_at": row["ordered_at"]}
    [workflow] = await rows(store, "SELECT * FROM {schema}.workflow")
    assert (workflow["ref_id"], workflow["metadata"]) == ("o-1", metadata)


async def test_the_outbox_holds_the_complete_call_under_a_lease(store: Database) -> None:
    start = encoded(start_delay=5, run_timeout=60, priority={"priority_key": 2})
    await accepted(store, start, lease=10)

    [entry] = await rows(store, "SELECT *, leased_until - created_at AS lease FROM {schema}.outbox")
    assert entry["id"] == entry["run_id"] == start.id
    assert entry["lease"] == timedelta(seconds=10)
    assert entry["tries"] == 1
    call = StartWorkflowExecutionRequest.FromString(entry["request"])
    assert call.request_id == str(start.id)
    assert call.workflow_id == start.workflow_id
    assert call.input.payloads[0].data == b'{"order":"o-1"}'
    assert call.workflow_start_delay.seconds == 5
    assert call.workflow_run_timeout.seconds == 60
    assert call.priority.priority_key == 2


async def test_a_start_without_ref_metadata_and_input(store: Database) -> None:
    encoder = StartEncoder("default", task_queue="anywhere")
    start = encoder.encode(StartRun(workflow_type="Nightly"))
    await accepted(store, start)

    row = await run_row(store, start.id)
    assert row["task_queue"] == "anywhere"
    assert (row["ref_type"], row["metadata"], row["input_id"]) == (None, None, None)
    for table in ("payload", "run_ref", "run_label"):
        assert await count(store, table) == 0
    assert await count(store, "workflow") == 1


async def test_the_payload_policy_rules_what_is_kept_in_the_tables(store: Database) -> None:
    encoder = StartEncoder("default", policy=PayloadPolicy(Treatment.DIGEST))
    start = encoder.encode(request(metadata={"secret": "s3cret"}))
    await accepted(store, start)

    row = await run_row(store, start.id)
    assert row["metadata"] is None
    assert await count(store, "run_label") == 0
    [payload] = await rows(store, "SELECT treatment, body, data FROM {schema}.payload")
    assert payload == {"treatment": "digest", "body": None, "data": None}


async def test_a_known_key_with_the_same_request_gives_its_run(store: Database) -> None:
    first = encoded(idempotency_key="k", metadata={"a": 1, "b": 2})
    await accepted(store, first)

    again = encoded(idempotency_key="k", metadata={"b": 2, "a": 1})
    assert await accepted(store, again) == ExistingRun(first.id)
    assert await count(store, "run") == 1
    assert await count(store, "outbox") == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"input": {"order": "o-2"}},
        {"ref_type": "order", "ref_id": "o-1"},
        {"metadata": {"a": 1}},
        {"workflow_id": "mine"},
        {"start_delay": 1.0},
    ],
)
async def test_a_known_key_with_another_request_is_a_conflict(
    store: Database, changed: dict[str, Any]
) -> None:
    first = encoded(idempotency_key="k")
    await accepted(store, first)

    with pytest.raises(IdempotencyConflict) as raised:
        await accepted(store, encoded(idempotency_key="k", **changed))
    assert raised.value.details["run_id"] == str(first.id)
    assert await count(store, "run") == 1


async def test_one_key_in_two_namespaces_is_two_keys(store: Database) -> None:
    await accepted(store, encoded("one", idempotency_key="k"))
    assert isinstance(await accepted(store, encoded("two", idempotency_key="k")), Accepted)


async def test_100_concurrent_accepts_with_one_key_give_one_run(store: Database) -> None:
    outcomes = await asyncio.gather(
        *(accepted(store, encoded(idempotency_key="k")) for _ in range(100))
    )

    [first] = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    others = {outcome.run_id for outcome in outcomes if isinstance(outcome, ExistingRun)}
    assert others == {first.run["id"]}
    assert await count(store, "run") == 1
    assert await count(store, "outbox") == 1


async def test_100_concurrent_accepts_of_one_ref_give_100_runs_of_one_workflow(
    store: Database,
) -> None:
    await asyncio.gather(
        *(accepted(store, encoded(ref_type="order", ref_id="o-1")) for _ in range(100))
    )
    assert await count(store, "run") == 100
    assert await count(store, "workflow") == 1


async def test_the_facades_grants_suffice(store: Database, api_role: str) -> None:
    start = encoded(ref_type="a", ref_id="b", metadata={"a": 1}, idempotency_key="k")
    async with store.transaction() as connection:
        await connection.execute(f"SET LOCAL ROLE {api_role}".encode())
        assert isinstance(await accept(connection, "flowtrail", start), Accepted)
        assert await accept(connection, "flowtrail", start) == ExistingRun(start.id)


@pytest.fixture
def api_role(database: str) -> Iterator[str]:
    """A role with the grants of the facade. Roles are the server's, hence its own name."""
    names = [f"{name}_{uuid4().hex[:8]}" for name in ("writer", "api", "reader")]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(grants_sql("flowtrail", *names).encode())
        yield names[1]
        for name in names:
            connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())
