"""No run stays open in the tables: whatever ends a run, and whatever ends a reconciler."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.codec import Reversing
from tests.starts import QUEUE, accepted, count, encoded, request, rows, run_row
from tests.waiting import eventually
from tracker.core.status import HISTORY_AUTHORITY
from tracker.errors import Conflict, NotFound, TransientError
from tracker.models.wire import RunRead
from tracker.store import reconcile
from tracker.store.database import Database
from tracker.store.reconcile import Cursor
from tracker.temporal.executions import describe
from tracker.temporal.projector import Projector
from tracker.temporal.reconcile import Reconciler, ReconcilerOptions
from tracker.temporal.start_encoder import StartEncoder
from tracker.temporal.start_service import StartService
from tracker.temporal.starter import TemporalStarter

QUICK = ReconcilerOptions(interval=0.05, quiet=0)
ONLY_CLOSED = ReconcilerOptions(interval=0.05, quiet=3600)


@activity.defn
async def pack(order: str) -> str:
    return f"packed {order}"


@workflow.defn
class PacksAndWaits:
    @workflow.run
    async def run(self, order: str) -> None:
        await workflow.execute_activity(pack, order, schedule_to_close_timeout=timedelta(seconds=9))
        await workflow.wait_condition(lambda: False)


def a_reconciler(store: Database, client: Client, pace: ReconcilerOptions = QUICK) -> Reconciler:
    return Reconciler(client, store.options, pace=pace)


def a_worker(client: Client) -> Worker:
    """Without the plugin: nothing of these runs is recorded live."""
    return Worker(
        client,
        task_queue=QUEUE,
        workflows=[PacksAndWaits],
        activities=[pack],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )


async def started(store: Database, client: Client, **fields: Any) -> RunRead:
    service = StartService(store, StartEncoder(client.namespace), TemporalStarter(client))
    given = {"workflow_type": "PacksAndWaits", "input": "o-1"} | fields
    return (await service.start(request(**given))).run


async def has_status(store: Database, run_id: UUID, wanted: str) -> bool:
    return (await run_row(store, run_id))["status"] == wanted


async def looked(reconciler: Reconciler, rounds: int = 2) -> None:
    """Wait until the reconciler has made so many more rounds."""
    enough = reconciler.counters.rounds + rounds
    await eventually(lambda: reconciler.counters.rounds >= enough)


async def test_a_terminated_run_is_closed_with_its_steps(
    store: Database, temporal_client: Client
) -> None:
    run = await started(store, temporal_client, ref_type="order", ref_id="o-1")
    handle = temporal_client.get_workflow_handle(run.workflow_id)

    async def packed() -> bool:
        return (await handle.describe()).history_length > 9

    async with a_worker(temporal_client):
        await eventually(packed)
    await handle.terminate(reason="stuck")

    async with a_reconciler(store, temporal_client, ONLY_CLOSED):
        await eventually(lambda: has_status(store, run.run_id, "terminated"))
    row = await run_row(store, run.run_id)
    assert row["status_version"] >= HISTORY_AUTHORITY
    assert "stuck" in row["error_message"]
    assert row["started_at"] == (await handle.describe()).start_time
    assert row["projected_length"] == (await handle.describe()).history_length
    [step] = await rows(store, "SELECT name, status FROM {schema}.step")
    assert step == {"name": "pack", "status": "completed"}
    assert await count(store, "run") == 1


async def test_without_an_api_the_live_feed_is_looked_after(
    store: Database, temporal_client: Client
) -> None:
    await started(store, temporal_client)
    assert await count(store, "change_pending") > 0
    async with a_reconciler(store, temporal_client):
        await eventually(lambda: is_empty(store, "change_pending"))
    assert await count(store, "change") > 0


async def is_empty(store: Database, table: str) -> bool:
    return await count(store, table) == 0


async def test_a_run_that_nobody_ever_served_times_out(
    store: Database, temporal_client: Client
) -> None:
    run = await started(store, temporal_client, run_timeout=0.2)
    async with a_reconciler(store, temporal_client, ONLY_CLOSED):
        await eventually(lambda: has_status(store, run.run_id, "timed_out"))


async def test_a_run_of_somebody_else_is_recorded(store: Database, temporal_client: Client) -> None:
    handle = await temporal_client.start_workflow("Foreign", id="foreign", task_queue="none")
    await handle.terminate()
    async with a_reconciler(store, temporal_client):
        await eventually(lambda: has_rows(store))
    [row] = await rows(store, "SELECT workflow_type, status, run_key FROM {schema}.run")
    assert row["status"] == "terminated"
    assert str(row["run_key"]) == handle.result_run_id


async def has_rows(store: Database) -> bool:
    return await count(store, "run") > 0


async def test_our_own_workflows_are_passed_over(store: Database, temporal_client: Client) -> None:
    own = await temporal_client.start_workflow("flowtrail.sweep", id="own", task_queue="none")
    await own.terminate()
    other = await temporal_client.start_workflow("Foreign", id="foreign", task_queue="none")
    await other.terminate()
    async with a_reconciler(store, temporal_client) as reconciler:
        await eventually(lambda: has_rows(store))
        await looked(reconciler)
    assert [r["workflow_type"] for r in await rows(store, "SELECT * FROM {schema}.run")] == [
        "Foreign"
    ]


async def test_a_projected_run_is_not_projected_again(
    store: Database, temporal_client: Client
) -> None:
    run = await started(store, temporal_client)
    await temporal_client.get_workflow_handle(run.workflow_id).terminate()
    for projected in (1, 0):
        async with a_reconciler(store, temporal_client, ONLY_CLOSED) as reconciler:
            await eventually(lambda: has_status(store, run.run_id, "terminated"))
            await looked(reconciler, 3)
            assert reconciler.counters.projected == projected


async def test_what_closed_while_no_reconciler_was_there(
    store: Database, temporal_client: Client
) -> None:
    async with a_reconciler(store, temporal_client, ONLY_CLOSED) as reconciler:
        await looked(reconciler)
    run = await started(store, temporal_client)
    await temporal_client.get_workflow_handle(run.workflow_id).terminate()
    # As if hours had passed: nothing but the kept cursor leads back to that close.
    no_overlap = ReconcilerOptions(interval=0.05, overlap=0, quiet=3600)
    async with a_reconciler(store, temporal_client, no_overlap):
        await eventually(lambda: has_status(store, run.run_id, "terminated"))


async def test_an_open_run_is_followed_when_visibility_told_its_close_too_late(
    store: Database, temporal_client: Client
) -> None:
    run = await started(store, temporal_client)
    await temporal_client.get_workflow_handle(run.workflow_id).terminate()
    later = datetime.now(UTC) + timedelta(hours=1)
    await reconcile.move_cursor(store, temporal_client.namespace, Cursor(later, later))

    async with a_reconciler(store, temporal_client):
        await eventually(lambda: has_status(store, run.run_id, "terminated"))


async def test_open_runs_are_followed_in_turn(store: Database, temporal_client: Client) -> None:
    runs = [await started(store, temporal_client) for _ in range(5)]
    await temporal_client.get_workflow_handle(runs[-1].workflow_id).terminate()
    later = datetime.now(UTC) + timedelta(hours=1)
    await reconcile.move_cursor(store, temporal_client.namespace, Cursor(later, later))

    two_at_a_time = ReconcilerOptions(interval=0.02, quiet=0, budget=2)
    async with a_reconciler(store, temporal_client, two_at_a_time) as reconciler:
        await eventually(lambda: has_status(store, runs[-1].run_id, "terminated"))
        await looked(reconciler, 4)
    for run in runs[:-1]:
        assert await has_status(store, run.run_id, "running")


async def test_a_run_whose_history_is_gone_is_lost(
    store: Database, temporal_client: Client
) -> None:
    run = await started(store, temporal_client)
    execution = WorkflowExecution(workflow_id=run.workflow_id, run_id=str(run.temporal_run_id))
    await temporal_client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=temporal_client.namespace, workflow_execution=execution
        )
    )

    async def gone() -> bool:
        return await describe(temporal_client, run.workflow_id, seconds=5) is None

    await eventually(gone)
    async with a_reconciler(store, temporal_client) as reconciler:
        await eventually(lambda: has_status(store, run.run_id, "lost"))
        assert reconciler.counters.lost == 1
    row = await run_row(store, run.run_id)
    # No verdict of history's: should the run show up again, its word counts.
    assert row["status_version"] < HISTORY_AUTHORITY
    assert row["finished_at"] is not None


async def test_one_reconciler_works_and_the_next_takes_over(
    store: Database, temporal_client: Client
) -> None:
    async with a_reconciler(store, temporal_client) as first:
        await looked(first)
        async with a_reconciler(store, temporal_client) as second:
            await looked(first, 5)
            assert second.counters.rounds == 0
            await first.__aexit__()
            await looked(second)


async def test_a_reconciler_that_loses_its_lock_lets_the_other_work(
    store: Database, temporal_client: Client
) -> None:
    async with (
        a_reconciler(store, temporal_client) as one,
        a_reconciler(store, temporal_client) as two,
    ):
        await eventually(lambda: one.counters.rounds + two.counters.rounds > 1)
        before = one.counters.rounds + two.counters.rounds
        killed = await rows(
            store,
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l"
            " JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND datname = current_database()",
        )
        assert len(killed) == 1
        await eventually(lambda: one.counters.rounds + two.counters.rounds > before + 2)


async def test_a_run_that_cannot_be_projected_holds_up_nothing(
    store: Database, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = await started(store, temporal_client)
    await temporal_client.get_workflow_handle(bad.workflow_id).terminate()
    good = await started(store, temporal_client)
    await temporal_client.get_workflow_handle(good.workflow_id).terminate()
    project_run = Projector.project_run

    async def fails_for_one(self: Projector, workflow_id: str, run_key: UUID) -> Any:
        if workflow_id == bad.workflow_id:
            raise ValueError("a history of another kind")
        return await project_run(self, workflow_id, run_key)

    monkeypatch.setattr(Projector, "project_run", fails_for_one)
    pace = ReconcilerOptions(interval=0.05, quiet=3600, tries=3)
    async with a_reconciler(store, temporal_client, pace) as reconciler:
        await eventually(lambda: has_status(store, good.run_id, "terminated"))
        await eventually(lambda: reconciler.counters.failures >= 3)
        await looked(reconciler, 3)
        assert reconciler.counters.failures == 3
    assert await has_status(store, bad.run_id, "running")
    cursor = await reconcile.get_cursor(store, temporal_client.namespace)
    assert cursor.closed_through == (await run_row(store, good.run_id))["finished_at"]


async def test_with_a_codec_nothing_is_kept_in_clear(
    store: Database, temporal_client: Client
) -> None:
    converter = DataConverter(payload_codec=Reversing())
    namespace, connection = temporal_client.namespace, temporal_client.service_client
    client = Client(connection, namespace=namespace, data_converter=converter)
    encoder = StartEncoder(namespace, data_converter=converter)
    service = StartService(store, encoder, TemporalStarter(client))
    secret = {"input": "s3cret", "metadata": {"card": "s3cret"}, "ref_type": "o", "ref_id": "1"}
    run = (await service.start(request(workflow_type="PacksAndWaits", **secret))).run
    again = request(workflow_type="PacksAndWaits", **secret, workflow_id=run.workflow_id)
    await service.start(again)
    handle = client.get_workflow_handle(run.workflow_id)

    async def packed() -> bool:
        return (await handle.describe()).history_length > 9

    async with a_worker(client):
        await eventually(packed)
    await handle.terminate()
    async with a_reconciler(store, client, ONLY_CLOSED):
        await eventually(lambda: has_status(store, run.run_id, "terminated"))

    # The memo was read, for the run kept our id and its ref; its metadata was not kept.
    assert await count(store, "run") == 2
    assert (await run_row(store, run.run_id))["ref_id"] == "1"
    for table in ("run", "step", "attempt", "payload", "run_label", "outbox", "workflow"):
        for row in await rows(store, f"SELECT to_jsonb(t)::text AS told FROM {{schema}}.{table} t"):
            assert "s3cret" not in row["told"]
            assert b"s3cret".hex() not in row["told"]


# Repair.


async def test_repair_makes_rows_what_history_says(
    store: Database, temporal_client: Client
) -> None:
    run = await started(store, temporal_client)
    await temporal_client.get_workflow_handle(run.workflow_id).terminate()
    async with Projector(temporal_client, store) as projector:
        projected = await projector.repair(run.run_id)
        assert run.temporal_run_id is not None
        assert await projector.repair(run.temporal_run_id) == projected
    assert projected.history_length == 3
    assert await has_status(store, run.run_id, "terminated")


async def test_repair_keeps_the_id_under_which_a_run_is_known(
    store: Database, temporal_client: Client
) -> None:
    run = await started(store, temporal_client)
    await rows(
        store,
        "UPDATE {schema}.run SET id = %(other)s WHERE id = %(id)s RETURNING id",
        id=run.run_id,
        other=UUID(int=run.run_id.int + 1),
    )
    assert run.temporal_run_id is not None
    async with Projector(temporal_client, store) as projector:
        await projector.repair(run.temporal_run_id)
    assert await count(store, "run") == 1


async def test_what_cannot_be_repaired(store: Database, temporal_client: Client) -> None:
    rejected = await started(store, Client(temporal_client.service_client, namespace="nowhere"))
    assert rejected.status == "rejected"
    async with Projector(temporal_client, store) as projector:
        with pytest.raises(NotFound):
            await projector.repair(rejected.run_id)
        with pytest.raises(NotFound):
            await projector.repair(UUID(int=1))
    nowhere = Client(temporal_client.service_client, namespace="nowhere")
    async with Projector(nowhere, store) as projector:
        with pytest.raises(Conflict, match="no history"):
            await projector.repair(rejected.run_id)


async def test_a_run_that_has_not_started_has_nothing_to_repair(
    store: Database, temporal_client: Client
) -> None:
    start = encoded(temporal_client.namespace)
    await accepted(store, start)
    async with Projector(temporal_client, store) as projector:
        with pytest.raises(TransientError, match="accepted"):
            await projector.repair(start.id)
