"""Open runs: those that nobody recorded, what quiet ones wait for, attempts that are long over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    PauseWorkflowExecutionRequest,
    ResetWorkflowExecutionRequest,
    UnpauseWorkflowExecutionRequest,
)
from temporalio.client import Client, WorkflowHandle
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.conftest import register_namespace
from tests.starts import QUEUE, count, rows
from tests.temporal.test_reconciler import a_reconciler, looked
from tests.waiting import eventually
from tracker.core.events import AttemptIdentity, AttemptStarted
from tracker.core.fold import fold
from tracker.store.database import Database, dedicated
from tracker.store.record import write_batch
from tracker.temporal.history_reader import HistoryReader
from tracker.temporal.projector import Projector
from tracker.temporal.reconcile import ReconcilerOptions

LONG = timedelta(hours=1)
QUICK = ReconcilerOptions(interval=0.05, quiet=0, sweep=0)


@activity.defn
async def fails() -> None:
    raise ValueError("no stock")


@activity.defn
async def hangs() -> None:
    await asyncio.sleep(60)


@workflow.defn
class Waits:
    def __init__(self) -> None:
        self.is_done = False

    @workflow.signal
    def finish(self) -> None:
        self.is_done = True

    @workflow.update
    async def change(self, to: str) -> str:
        return to

    @workflow.run
    async def run(self, what: str) -> None:
        slowly = RetryPolicy(initial_interval=LONG)
        match what:
            case "timer":
                await asyncio.sleep(LONG.total_seconds())
            case "retry":
                await workflow.execute_activity(
                    fails, start_to_close_timeout=LONG, retry_policy=slowly
                )
            case "activity":
                await workflow.execute_activity(hangs, start_to_close_timeout=LONG)
            case "hangs":
                await workflow.execute_activity(
                    hangs, start_to_close_timeout=timedelta(seconds=0.3), retry_policy=slowly
                )
            case "queue":
                await workflow.execute_activity(
                    hangs, start_to_close_timeout=LONG, task_queue="nobody"
                )
            case "child":
                await workflow.execute_child_workflow("Other", id="child", task_queue="nobody")
            case "broken":
                raise RuntimeError("a bug in the workflow's code")
            case _:
                await workflow.wait_condition(lambda: self.is_done)


@asynccontextmanager
async def served(client: Client) -> AsyncIterator[None]:
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[Waits],
        activities=[fails, hangs],
        workflow_runner=UnsandboxedWorkflowRunner(),
        graceful_shutdown_timeout=timedelta(milliseconds=100),
    ):
        yield


async def a_run(client: Client, what: str) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow("Waits", what, id=f"waits-{what}", task_queue=QUEUE)


async def waits_for(store: Database, handle: WorkflowHandle[Any, Any]) -> list[dict[str, Any]]:
    found = await rows(
        store,
        "SELECT waiting_on FROM {schema}.v_runs WHERE temporal_run_id = %(key)s",
        key=UUID(handle.first_execution_run_id),
    )
    assert found, "not recorded"
    assert found[0]["waiting_on"] is not None, "not looked at"
    return found[0]["waiting_on"]


async def test_open_runs_that_nobody_recorded_are_brought_in_at_once(
    store: Database, temporal_client: Client
) -> None:
    async with a_reconciler(store, temporal_client) as reconciler, served(temporal_client):
        await looked(reconciler)
        handle = await a_run(temporal_client, "signal")
        await eventually(lambda: waits_for(store, handle))
        copy = await temporal_client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=temporal_client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=handle.id),
                workflow_task_finish_event_id=4,
                request_id="reset",
            )
        )

        async def both() -> bool:
            found = await rows(store, "SELECT run_key, status FROM {schema}.run")
            return {str(row["run_key"]): row["status"] for row in found} == {
                handle.first_execution_run_id: "terminated",
                copy.run_id: "running",
            }

        await eventually(both)


async def test_runs_from_before_the_first_round_are_left_alone(
    store: Database, temporal_client: Client
) -> None:
    await temporal_client.start_workflow("Waits", "x", id="old", task_queue="nobody")
    await asyncio.sleep(0.1)
    no_overlap = ReconcilerOptions(interval=0.05, overlap=0)
    async with a_reconciler(store, temporal_client, no_overlap) as reconciler:
        await looked(reconciler, 3)
        await temporal_client.start_workflow("Waits", "x", id="new", task_queue="nobody")
        await eventually(lambda: _has_run(store, "new"))
    assert not await _has_run(store, "old")


async def _has_run(store: Database, workflow_id: str) -> bool:
    sql = "SELECT 1 FROM {schema}.run WHERE workflow_id = %(id)s"
    return bool(await rows(store, sql, id=workflow_id))


async def test_what_a_quiet_run_waits_for_is_told(store: Database, temporal_client: Client) -> None:
    kinds = ("timer", "retry", "activity", "queue", "child", "signal", "broken")
    unserved = await temporal_client.start_workflow("Any", id="unserved", task_queue="nobody")
    async with a_reconciler(store, temporal_client, QUICK) as reconciler, served(temporal_client):
        await looked(reconciler)
        handles = {what: await a_run(temporal_client, what) for what in kinds}
        started = await temporal_client.start_workflow("Any", id="new", task_queue="nobody")

        async def told(what: str, **facts: Any) -> bool:
            [entry, *more] = await waits_for(store, handles[what])
            assert not more
            assert facts.items() <= entry.items(), (what, entry)
            return True

        await eventually(lambda: told("retry", kind="retry", step="fails", attempt=2))
        await eventually(lambda: told("retry", error="no stock"))
        [retry] = await waits_for(store, handles["retry"])
        due = datetime.fromisoformat(retry["until"]) - datetime.now(UTC)
        assert timedelta(minutes=55) < due < timedelta(minutes=65)
        await eventually(lambda: told("timer", kind="timer", step="timer"))
        [timer] = await waits_for(store, handles["timer"])
        assert "until" in timer
        await eventually(lambda: told("activity", kind="activity", step="hangs", attempt=1))
        await eventually(lambda: told("queue", kind="worker", task_queue="nobody"))
        await eventually(lambda: told("child", kind="child_workflow", workflow_id="child"))
        await eventually(
            lambda: told("signal", kind="message", signals=["finish"], updates=["change"])
        )
        await eventually(lambda: told("broken", kind="workflow_task", task_queue=QUEUE))

        async def unserved_told() -> bool:
            [entry] = await waits_for(store, started)
            return (entry["kind"], entry["task_queue"]) == ("worker", "nobody")

        await eventually(unserved_told)
        for handle in (*handles.values(), started, unserved):
            await handle.terminate()

        async def none_waits() -> bool:
            sql = "SELECT waiting_on FROM {schema}.v_runs WHERE waiting_on IS NOT NULL"
            return not await rows(store, sql)

        await eventually(none_waits)


async def test_a_paused_run_is_told_and_so_is_its_end(
    store: Database, temporal_client: Client
) -> None:
    async with a_reconciler(store, temporal_client, QUICK) as reconciler, served(temporal_client):
        await looked(reconciler)
        handle = await a_run(temporal_client, "signal")
        await eventually(lambda: waits_for(store, handle))
        asked = {"namespace": temporal_client.namespace, "workflow_id": handle.id}
        await temporal_client.workflow_service.pause_workflow_execution(
            PauseWorkflowExecutionRequest(**asked, identity="me", request_id="p")
        )

        async def is_paused(paused: bool) -> bool:
            [row] = await rows(store, "SELECT paused_at, status FROM {schema}.run")
            kinds = [entry["kind"] for entry in await waits_for(store, handle)]
            assert row["status"] == "running"
            return (row["paused_at"] is not None, "unpause" in kinds) == (paused, paused)

        await eventually(lambda: is_paused(True))
        await temporal_client.workflow_service.unpause_workflow_execution(
            UnpauseWorkflowExecutionRequest(**asked, identity="me", request_id="u")
        )
        await eventually(lambda: is_paused(False))


async def test_attempts_that_are_over_for_the_server_are_ended(
    store: Database, temporal_client: Client
) -> None:
    """Their worker died: it told that they began, and nothing else."""
    async with served(temporal_client):
        handle = await a_run(temporal_client, "hangs")

        async def has_timed_out() -> bool:
            pending = (await handle.describe()).raw_description.pending_activities
            return bool(pending) and pending[0].attempt == 2

        await eventually(has_timed_out)
        run_key = UUID(handle.first_execution_run_id)
        reader = HistoryReader(temporal_client)
        history = await reader.read(handle.id, run_key, projected_at=datetime.now(UTC))
        assert history is not None
        await _tell_live(store, history.events)
        async with a_reconciler(store, temporal_client, QUICK):

            async def ended() -> bool:
                found = await rows(
                    store,
                    "SELECT number, outcome, error_type FROM {schema}.attempt ORDER BY started_at",
                )
                told = [(a["number"], a["outcome"], a["error_type"]) for a in found]
                assert told == [(1, "timed_out", "TimeoutError/START_TO_CLOSE")]
                return True

            await eventually(ended)
        [step] = await rows(store, "SELECT status, next_retry_at FROM {schema}.step")
        assert step["status"] == "scheduled"
        assert step["next_retry_at"] is not None
        await handle.terminate()


async def _tell_live(store: Database, events: Any) -> None:
    """What a worker told of one attempt."""
    [scheduled] = [event for event in events if type(event).__name__ == "StepScheduled"]
    told = AttemptStarted(
        attempt=AttemptIdentity(step=scheduled.step, number=1, started_at=scheduled.scheduled_at),
        type="hangs",
        scheduled_at=scheduled.scheduled_at,
        task_queue=QUEUE,
    )
    async with dedicated(store.options) as connection:
        await write_batch(connection, "flowtrail", fold([*events, told]))


async def test_closed_runs_whose_history_is_gone_are_unverifiable(
    store: Database, temporal_client: Client
) -> None:
    handle = await temporal_client.start_workflow("Any", id="w", task_queue="nobody")
    async with a_reconciler(store, temporal_client, QUICK):
        await eventually(lambda: _has_run(store, "w"))
        await handle.terminate()
        await eventually(lambda: _is(store, "status = 'terminated'"))
    # Moved to a namespace in which nothing ran, and back to the word of a worker.
    namespace = f"{temporal_client.namespace}-other"
    await register_namespace(temporal_client, namespace)
    await rows(
        store,
        "UPDATE {schema}.run SET namespace = %(other)s, status_version = 19,"
        " finished_at = finished_at - interval '1 hour' RETURNING 1",
        other=namespace,
    )
    other = Client(temporal_client.service_client, namespace=namespace)
    async with a_reconciler(store, other, QUICK) as reconciler:
        await eventually(lambda: _is(store, "unverifiable_at IS NOT NULL"))
        await looked(reconciler)
        assert reconciler.counters.unverifiable == 1
    assert await _is(store, "status = 'terminated'")


async def _is(store: Database, condition: str) -> bool:
    return bool(await rows(store, f"SELECT 1 FROM {{schema}}.run WHERE {condition}"))


async def test_a_living_reconciler_fills_the_gaps_of_a_restored_backup(
    store: Database, temporal_client: Client
) -> None:
    async with a_reconciler(store, temporal_client, QUICK) as reconciler:
        await looked(reconciler)
        cursors = await rows(store, "SELECT * FROM {schema}.reconcile_cursor")
        handle = await temporal_client.start_workflow("Any", id="w", task_queue="nobody")
        await handle.terminate()
        await eventually(lambda: _is(store, "status = 'terminated'"))
        await looked(reconciler)
        # As if the tables were those of before the run.
        await rows(store, "DELETE FROM {schema}.run RETURNING 1")
        await rows(
            store,
            "UPDATE {schema}.reconcile_cursor SET closed_through = %(at)s RETURNING 1",
            at=cursors[0]["closed_through"],
        )
        await eventually(lambda: _is(store, "status = 'terminated'"))


async def test_a_round_leaves_how_far_it_came_and_how_late_it_was(
    store: Database, temporal_client: Client
) -> None:
    async with a_reconciler(store, temporal_client, QUICK) as reconciler:
        handle = await temporal_client.start_workflow("Any", id="w", task_queue="nobody")
        await handle.terminate()
        await eventually(lambda: _is(store, "status = 'terminated'"))
        await looked(reconciler)
    [cursor] = await rows(store, "SELECT * FROM {schema}.reconcile_cursor")
    assert cursor["rounds"] >= 2
    assert cursor["lag_seconds"] == 0.0
    assert cursor["closed_through"] >= (await _finished(store))
    assert await count(store, "reconcile_cursor") == 1


async def _finished(store: Database) -> datetime:
    [row] = await rows(store, "SELECT finished_at FROM {schema}.run")
    return row["finished_at"]


async def test_unconfirmed_runs_whose_history_expires_soon_are_warned_of(
    store: Database,
    temporal_client: Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    handle = await temporal_client.start_workflow("Any", id="w", task_queue="nobody")
    async with a_reconciler(store, temporal_client, QUICK):
        await eventually(lambda: _has_run(store, "w"))
        await handle.terminate()
        await eventually(lambda: _is(store, "status = 'terminated'"))
    await rows(
        store,
        "UPDATE {schema}.run SET status_version = 19, finished_at = finished_at - interval"
        " '90 days' RETURNING 1",
    )

    async def fails(*_: Any) -> None:
        raise ValueError("a history of another kind")

    monkeypatch.setattr(Projector, "project_run", fails)
    async with a_reconciler(store, temporal_client, QUICK):
        await eventually(lambda: "expire soon" in caplog.text)
    assert "1 closed runs have not been confirmed" in caplog.text
