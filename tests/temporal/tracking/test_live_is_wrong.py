"""Where the live view is wrong or blind until history is read: refusals, resets, evictions."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetActivityRequest, ResetWorkflowExecutionRequest
from temporalio.client import WorkflowFailureError

from tests.temporal.tracking.harness import Handle, Tracked, run_id_of
from tests.temporal.tracking.limit_workflows import WORKFLOWS, Cleaner, Moody, produce, shout
from tests.waiting import eventually
from tracker.core.events import RunClosed
from tracker.temporal.refs import tracked_ref


async def test_a_step_result_over_2_mb(tracked: Tracked) -> None:
    async with tracked.worker(WORKFLOWS, [produce]):
        handle = await tracked.start("Producing", True)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    live = (await tracked.run(handle)).step("produce")
    assert (live.status, live.outcomes) == ("completed", [(1, "completed")])
    run = await tracked.corrected(handle)
    step = run.step("produce")
    assert (run.status, step.status, step.output) == ("failed", "failed", None)
    assert step.outcomes == [(1, "failed")]
    assert step.error_type == run.error_type == step.tries[0].error_type
    assert "size" in step.error_message.lower() or "large" in step.error_type.lower()


async def test_a_workflow_result_over_2_mb(tracked: Tracked) -> None:
    async with tracked.worker(WORKFLOWS, [produce]):
        handle = await tracked.start("Producing", False)
        await eventually(lambda: is_claimed(tracked, handle))
        await eventually(lambda: has_event(tracked, handle, _TASK_FAILED))
        await handle.terminate()
    run = await tracked.corrected(handle)
    assert (run.status, run.output, run.error_type) == ("terminated", None, "TerminatedError")
    assert run.task_failure_type is not None


async def test_a_reset_run(tracked: Tracked) -> None:
    client = tracked.client()
    async with tracked.worker(WORKFLOWS, [shout], client=client):
        with tracked_ref("order", "o-1"):
            handle = await tracked.start("Repeating", "a", client=client)
        assert await handle.result() == ["A", "AA"]
        kinds = [event.event_type for event in await tracked.events(handle)]
        second_task = [n for n, kind in enumerate(kinds, start=1) if kind == _TASK_COMPLETED][1]
        reset = await client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=tracked.namespace,
                workflow_execution=WorkflowExecution(
                    workflow_id=handle.id, run_id=run_id_of(handle)
                ),
                workflow_task_finish_event_id=second_task,
                request_id=str(uuid.uuid4()),
            )
        )
        again = client.get_workflow_handle(handle.id, run_id=reset.run_id)
        assert await again.result() == ["A", "AA"]
    original, copied = await tracked.run(handle), await tracked.run(again)
    assert (original.status, copied.status) == ("completed", "completed")
    assert original.run_id != copied.run_id
    assert (copied.ref_type, copied.ref_id) == ("order", "o-1")
    assert copied.first_temporal_run_id == original.temporal_run_id
    # What was copied ran under another run; only what came after the reset was seen here.
    assert [step.input for step in copied.steps] == [["aa"]]
    copied = await tracked.corrected(again)
    assert [(step.input, step.status) for step in copied.steps] == [
        (["a"], "completed"),
        (["aa"], "completed"),
    ]
    assert (copied.input, copied.output) == (["a"], ["A", "AA"])
    assert copied.continued_from_temporal_run_id == original.temporal_run_id


async def test_a_reset_activity(tracked: Tracked) -> None:
    moody = Moody()
    async with tracked.worker(WORKFLOWS, [moody.work_sometimes]):
        # An activity has no longer than its run, and its next attempt is an hour away.
        handle = await tracked.start("Moods", execution_timeout=timedelta(hours=2))
        await eventually(lambda: moody.calls == 2)

        async def backs_off() -> bool:
            pending = (await handle.describe()).raw_description.pending_activities
            return [activity.attempt for activity in pending] == [3]

        await eventually(backs_off)
        await tracked.connection.workflow_service.reset_activity(
            ResetActivityRequest(
                namespace=tracked.namespace,
                execution=WorkflowExecution(workflow_id=handle.id),
                id="1",
            )
        )
        assert await handle.result() == 3
    run = await tracked.run(handle)
    # The numbers begin anew, under the same schedule time.
    assert run.step("work_sometimes").outcomes == [(1, "failed"), (2, "failed"), (1, "completed")]
    (failure,) = await tracked.rows("step_failure")
    assert (failure["error_type"], failure["status"]) == ("RetryAfter", "completed")
    for seen in (run, await tracked.corrected(handle)):
        step = seen.step("work_sometimes")
        assert (step.status, step.output) == ("completed", 3)
        assert [one.outcome for one in step.tries] == ["failed", "failed", "completed"]
        assert [one.error_type for one in step.tries] == ["ValueError", "RetryAfter", None]
        assert step.finished_at == step.tries[-1].finished_at


async def test_an_eviction_while_it_cleans_up_is_no_end(tracked: Tracked) -> None:
    cleaner = Cleaner()
    async with tracked.worker(WORKFLOWS, [cleaner.clean], max_cached_workflows=1):
        handle = await tracked.start("Cleaning")
        await handle.cancel()
        await cleaner.entered.wait()
        await (await tracked.start("Passing")).result()
        closed = [event for event in tracked.heard if isinstance(event, RunClosed)]
        assert [event.run.workflow_type for event in closed] == ["Passing"]
        assert (await tracked.run(handle)).status == "running"
        cleaner.allowed.set()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.statuses) == ("canceled", [("clean", "completed")])


async def is_claimed(tracked: Tracked, handle: Handle) -> bool:
    """Whether the run is on record as completed."""
    return (await tracked.run(handle)).status == "completed"


async def has_event(tracked: Tracked, handle: Handle, kind: Any) -> bool:
    """Whether history has an event of that kind."""
    return any(event.event_type == kind for event in await tracked.events(handle))


_TASK_FAILED = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
_TASK_COMPLETED = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
