"""Histories of a real server, projected and folded: every kind of event gives the right rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import RetryPolicy

from tests.temporal import history_workflows as flows
from tests.temporal.history_nexus import NexusWorkflow, PricesHandler
from tests.temporal.history_workflows import Timeouts
from tests.temporal.projected import events_of, rows, rows_of
from tests.temporal.running import finished, start, until_event, until_handled, worker
from tests.waiting import eventually
from tracker.core.status import AttemptOutcome, RunStatus, StepKind, StepStatus
from tracker.errors import InvalidRequest

SUFFICES = RetryPolicy(maximum_attempts=2, initial_interval=timedelta(milliseconds=10))


@pytest.fixture
def queue() -> str:
    return f"queue-{uuid4().hex[:8]}"


@pytest.fixture
async def running(temporal_client: Client, queue: str) -> AsyncGenerator[None]:
    async with worker(temporal_client, queue):
        yield


@pytest.mark.usefixtures("running")
async def test_a_completed_run_with_its_last_attempt(temporal_client: Client, queue: str) -> None:
    handle = await finished(await start(temporal_client, queue, flows.ChargeWorkflow.run, 3, 5))
    rows = await rows_of(handle)
    run = rows.run
    assert run["status"] == RunStatus.COMPLETED
    assert rows.value(run["output_id"]) == "paid"
    assert rows.value(run["input_id"]) == [3, 5]
    assert run["worker_identity"] == temporal_client.service_client.config.identity
    assert run["projected_length"] == len(await events_of(handle))
    first, second = rows.steps(StepKind.ACTIVITY)
    assert (first["status"], first["attempts"], first["max_attempts"]) == ("completed", 3, 5)
    assert (second["status"], second["attempts"], second["max_attempts"]) == ("completed", 1, None)
    assert rows.value(first["input_id"]) == [5, 3]
    assert rows.value(first["output_id"]) == {"charged": 5}
    [attempt] = rows.attempts(first)
    assert (attempt["number"], attempt["outcome"]) == (3, AttemptOutcome.COMPLETED)
    assert attempt["worker_identity"] == temporal_client.service_client.config.identity
    assert first["detail"] == {
        "last_failure": {"type": "CardDeclined", "message": "declined at attempt 2"}
    }


@pytest.mark.usefixtures("running")
async def test_exhausted_retries_fail_step_and_run(temporal_client: Client, queue: str) -> None:
    handle = await finished(await start(temporal_client, queue, flows.ChargeWorkflow.run, 9, 2))
    rows = await rows_of(handle)
    step = rows.step(StepKind.ACTIVITY)
    for row in (rows.run, step, *rows.attempts(step)):
        assert row["error_type"] == "CardDeclined"
        assert row["error_message"] == "declined at attempt 2"
    assert rows.run["status"] == RunStatus.FAILED
    assert (step["status"], step["attempts"]) == (StepStatus.FAILED, 2)
    assert step["detail"]["retry_state"] == "maximum_attempts_reached"
    [attempt] = rows.attempts(step)
    assert "raise CardDeclined" in attempt["error_stack"]


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize(("own", "kind"), [(True, "OwnReason"), (False, "Refused")])
async def test_application_errors_keep_their_type(
    temporal_client: Client, queue: str, own: bool, kind: str
) -> None:
    handle = await start(temporal_client, queue, flows.RefuseWorkflow.run, "no", own)
    rows = await rows_of(await finished(handle))
    assert (rows.run["error_type"], rows.run["error_message"]) == (kind, "no")
    assert [s["error_type"] for s in rows.steps(StepKind.ACTIVITY)] == ([] if own else [kind])


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize(
    ("timeouts", "kind", "attempts"),
    [
        (Timeouts(start_to_close=0.1, schedule_to_close=0.1), "TimeoutError/SCHEDULE_TO_CLOSE", 1),
        (Timeouts(start_to_close=5, heartbeat=0.1, attempts=2), "TimeoutError/HEARTBEAT", 2),
        (Timeouts(start_to_close=0.1, attempts=1), "TimeoutError/START_TO_CLOSE", 1),
        (Timeouts(schedule_to_start=0.1, start_to_close=1, task_queue="nobody"),
         "TimeoutError/SCHEDULE_TO_START", None),
    ],
)  # fmt: skip
async def test_timeouts(
    temporal_client: Client, queue: str, timeouts: Timeouts, kind: str, attempts: int | None
) -> None:
    handle = await start(temporal_client, queue, flows.TimeoutWorkflow.run, timeouts)
    rows = await rows_of(await finished(handle))
    step = rows.step(StepKind.ACTIVITY)
    assert (step["status"], step["error_type"]) == (StepStatus.TIMED_OUT, kind)
    assert step.get("attempts") == attempts
    assert [a["outcome"] for a in rows.attempts(step)] == ["timed_out"] * bool(attempts)


@pytest.mark.usefixtures("running")
async def test_no_time_for_another_try(temporal_client: Client, queue: str) -> None:
    timeouts = Timeouts(schedule_to_close=5, activity="charge", args=[1, 99], initial_interval=10)
    handle = await start(temporal_client, queue, flows.TimeoutWorkflow.run, timeouts)
    step = (await rows_of(await finished(handle))).step(StepKind.ACTIVITY)
    assert (step["status"], step["error_type"]) == (StepStatus.FAILED, "CardDeclined")
    assert step["detail"]["retry_state"] == "timeout"


@pytest.mark.usefixtures("running")
async def test_a_terminated_run_closes_what_it_left_open(
    temporal_client: Client, queue: str
) -> None:
    handle = await start(temporal_client, queue, flows.WaitWorkflow.run)
    await until_handled(handle, EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    await handle.terminate(reason="enough")
    rows = await rows_of(handle)
    assert rows.run["status"] == RunStatus.TERMINATED
    assert rows.run["error_type"] == "TerminatedError"
    assert rows.run["error_message"].startswith("enough, by ")
    steps = list(rows.batch.steps.values())
    assert {s["kind"] for s in steps} == {"activity", "timer", "child_workflow"}
    assert {(s["status"], s["error_type"]) for s in steps} == {("canceled", "RunClosed")}
    assert {s["finished_at"] for s in steps} == {rows.run["finished_at"]}


@pytest.mark.usefixtures("running")
async def test_an_open_run_claims_nothing_about_open_steps(
    temporal_client: Client, queue: str
) -> None:
    handle = await start(temporal_client, queue, flows.WaitWorkflow.run)
    await until_handled(handle, EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    rows = await rows_of(handle)
    assert rows.run["status"] == RunStatus.RUNNING
    steps = list(rows.batch.steps.values())
    assert {s["kind"]: s["status"] for s in steps} == {
        "activity": "scheduled",
        "timer": "started",
        "child_workflow": "started",
    }
    assert max(row["status_version"] for row in (*steps, rows.run)) < 1 << 60
    await handle.terminate()


@pytest.mark.usefixtures("running")
async def test_canceling(temporal_client: Client, queue: str) -> None:
    handle = await start(temporal_client, queue, flows.WaitWorkflow.run)
    await until_handled(handle, EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
    await handle.cancel()
    rows = await rows_of(await finished(handle))
    assert (rows.run["status"], rows.run["error_type"]) == (RunStatus.CANCELED, None)
    for kind in (StepKind.ACTIVITY, StepKind.TIMER, StepKind.CHILD_WORKFLOW):
        step = rows.step(kind)
        assert (step["status"], step["error_type"]) == (StepStatus.CANCELED, None)
    [attempt] = rows.attempts(rows.step(StepKind.ACTIVITY))
    assert attempt["outcome"] == AttemptOutcome.CANCELED


async def test_a_run_that_timed_out(temporal_client: Client, queue: str) -> None:
    handle = await start(
        temporal_client, queue, flows.TimerWorkflow.run, run_timeout=timedelta(milliseconds=100)
    )
    rows = await rows_of(await finished(handle))
    assert rows.run["status"] == RunStatus.TIMED_OUT
    assert rows.run["error_type"] == "TimeoutError/START_TO_CLOSE"
    assert rows.run["worker_identity"] is None


@pytest.mark.usefixtures("running")
async def test_a_chain_of_continue_as_new(temporal_client: Client, queue: str) -> None:
    handle = await finished(await start(temporal_client, queue, flows.ContinuedWorkflow.run, 1))
    first = (await rows_of(handle)).run
    assert first["status"] == RunStatus.CONTINUED_AS_NEW
    next_handle = temporal_client.get_workflow_handle(handle.id, run_id=str(first["continued_to"]))
    second = (await rows_of(await finished(next_handle))).run
    assert second["status"] == RunStatus.COMPLETED
    assert second["continued_from"] == second["first_run_key"] == first["run_key"]
    assert second["id"] != first["id"]


@pytest.mark.usefixtures("running")
async def test_a_workflow_retry_is_another_run(temporal_client: Client, queue: str) -> None:
    handle = await start(temporal_client, queue, flows.RetriedWorkflow.run, retry_policy=SUFFICES)
    first = (await rows_of(await finished(handle))).run
    assert (first["status"], first["error_type"]) == (RunStatus.FAILED, "FirstTime")
    next_handle = temporal_client.get_workflow_handle(handle.id, run_id=str(first["continued_to"]))
    second = await rows_of(await finished(next_handle))
    assert second.run["attempt"] == 2
    assert second.value(second.run["output_id"]) == 2


@pytest.mark.usefixtures("running")
async def test_children_of_every_fate(temporal_client: Client, queue: str) -> None:
    prefix = f"child-{uuid4().hex[:8]}"
    handle = await start(temporal_client, queue, flows.ParentWorkflow.run, prefix)
    waiting = temporal_client.get_workflow_handle(f"{prefix}-wait")

    async def described() -> bool:
        try:
            return bool(await waiting.describe())
        except Exception as error:
            raise AssertionError("not started yet") from error

    await eventually(described)
    await waiting.terminate()
    rows = await rows_of(await finished(handle))
    seen = [(s["status"], s["error_type"]) for s in rows.steps(StepKind.CHILD_WORKFLOW)]
    assert seen == [
        ("completed", None),
        ("failed", "Told"),
        ("timed_out", "TimeoutError/START_TO_CLOSE"),
        ("failed", "TerminatedError"),
        ("canceled", None),
        ("failed", "WorkflowAlreadyStartedError"),
    ]
    assert rows.value(rows.run["output_id"]) == [
        "completed",
        "ApplicationError",
        "TimeoutError",
        "TerminatedError",
        "WorkflowAlreadyStartedError",
    ]
    completed = rows.steps(StepKind.CHILD_WORKFLOW)[0]
    child = temporal_client.get_workflow_handle(f"{prefix}-complete")
    child_run = (await rows_of(child)).run
    assert completed["step_key"] == completed["detail"]["run_id"] == str(child_run["run_key"])
    assert child_run["parent_run_key"] == child_run["root_run_key"] == rows.run["run_key"]
    assert child_run["parent_workflow_id"] == handle.id
    assert rows.value(completed["input_id"]) == ["complete"]
    assert rows.value(completed["output_id"]) == "complete"


@pytest.mark.usefixtures("running")
async def test_timers(temporal_client: Client, queue: str) -> None:
    handle = await start(temporal_client, queue, flows.TimerWorkflow.run)
    rows = await rows_of(await finished(handle))
    canceled, fired = rows.steps(StepKind.TIMER)
    if fired["name"] == "timer":
        canceled, fired = fired, canceled
    assert (fired["name"], fired["status"]) == ("short sleep", "completed")
    assert (canceled["name"], canceled["status"]) == ("timer", "canceled")
    assert fired["detail"]["fires_at"] > fired["started_at"].isoformat()


@pytest.mark.usefixtures("running")
async def test_signals_and_updates(temporal_client: Client, queue: str) -> None:
    handle = await start(
        temporal_client,
        queue,
        flows.ReleasedWorkflow.run,
        start_signal="release",
        start_signal_args=["early"],
    )
    assert await handle.execute_update("rename", "name", id="first") == "NAME"
    for bad in ("fail", ""):
        with pytest.raises(Exception, match="update failed"):
            await handle.execute_update("rename", bad, id=f"bad-{bad}")
    await handle.signal("release", "end")
    rows = await rows_of(await finished(handle))
    assert [
        (s["name"], s["status"], rows.value(s["input_id"])) for s in rows.steps(StepKind.SIGNAL)
    ] == [("release", "completed", ["early"]), ("release", "completed", ["end"])]
    good, failed = rows.steps(StepKind.UPDATE)
    assert (good["step_key"], good["name"], good["status"]) == ("first", "rename", "completed")
    assert (rows.value(good["input_id"]), rows.value(good["output_id"])) == (["name"], "NAME")
    assert (failed["step_key"], failed["status"]) == ("bad-fail", "failed")
    assert (failed["error_type"], failed["error_message"]) == ("NoSuchName", "no such name")


async def test_a_failed_workflow_task_leaves_the_run_open(
    temporal_client: Client, queue: str
) -> None:
    flows.TaskFailureWorkflow.failed = False
    async with worker(temporal_client, queue):
        handle = await start(temporal_client, queue, flows.TaskFailureWorkflow.run)
        await until_event(handle, EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED)
        open_run = (await rows_of(handle)).run
        closed_run = (await rows_of(await finished(handle))).run
    assert open_run["task_failure_type"] == closed_run["task_failure_type"] == "CardDeclined"
    assert open_run["task_failure_message"] == "a bug in the code"
    assert closed_run["status"] == RunStatus.COMPLETED


async def test_nexus_operations(temporal_client: Client, queue: str) -> None:
    endpoint = f"prices-{uuid4().hex[:8]}"
    await temporal_client.operator_service.create_nexus_endpoint(
        CreateNexusEndpointRequest(
            spec=EndpointSpec(
                name=endpoint,
                target=EndpointTarget(
                    worker=EndpointTarget.Worker(
                        namespace=temporal_client.namespace, task_queue=queue
                    )
                ),
            )
        )
    )
    async with worker(
        temporal_client,
        queue,
        workflows=[NexusWorkflow, flows.FateWorkflow],
        nexus_service_handlers=[PricesHandler()],
    ):
        handle = await start(temporal_client, queue, NexusWorkflow.run, endpoint)
        rows = await rows_of(await finished(handle))
    at_once, by_workflow, failed = rows.steps(StepKind.NEXUS_OPERATION)
    assert (at_once["name"], at_once["type"]) == ("quote", "Prices/quote")
    assert (at_once["status"], rows.value(at_once["output_id"])) == ("completed", "tea: 1")
    assert rows.value(at_once["input_id"]) == "tea"
    assert (by_workflow["status"], rows.value(by_workflow["output_id"])) == (
        "completed",
        "complete",
    )
    assert by_workflow["started_at"] is not None
    assert (failed["status"], failed["error_message"]) == ("failed", "no price")
    assert failed["detail"] == {"endpoint": endpoint}


@pytest.mark.usefixtures("running")
async def test_a_reset_run_has_the_steps_before_the_point_too(
    temporal_client: Client, queue: str
) -> None:
    handle = await start(temporal_client, queue, flows.ReleasedWorkflow.run)
    await handle.execute_update("rename", "name", id="first")
    await handle.signal("release", "end")
    await finished(handle)
    answer = await temporal_client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=temporal_client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=handle.run_id or ""),
            workflow_task_finish_event_id=4,
            request_id=str(uuid4()),
            reason="again",
        )
    )
    copy = temporal_client.get_workflow_handle(handle.id, run_id=answer.run_id)
    rows = await rows_of(await finished(copy))
    assert rows.run["run_key"] == UUID(answer.run_id)
    assert str(rows.run["continued_from"]) == str(rows.run["first_run_key"]) == handle.run_id
    assert rows.run.get("task_failure_type") is None
    assert rows.run["status"] == RunStatus.COMPLETED
    assert [s["name"] for s in rows.steps(StepKind.SIGNAL)] == ["release"]
    # A reset copies what came after its point as requests that wait again.
    kinds = {event.event_type for event in await events_of(copy)}
    assert EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED in kinds
    [update] = rows.steps(StepKind.UPDATE)
    assert (update["step_key"], update["status"]) == ("first", "completed")


def test_a_history_begins_with_its_start() -> None:
    for events in ([], [HistoryEvent(event_type=EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED)]):
        with pytest.raises(InvalidRequest, match="WORKFLOW_EXECUTION_STARTED"):
            rows(events, workflow_id="w", run_key=uuid4())
