"""Signals and updates, alone and together with a start; schedules."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleSpec,
    WithStartWorkflowOperation,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy

from tests.temporal.tracking.harness import Handle, Tracked
from tests.temporal.tracking.message_workflows import Mailbox, look_up
from tests.waiting import eventually
from tracker.temporal.refs import tracked_ref


async def test_signals_are_told_by_history(tracked: Tracked) -> None:
    async with tracked.worker([Mailbox], [look_up]):
        handle = await tracked.start("Mailbox")
        await handle.signal("tell", "hello")
        await handle.signal("tell", "end")
        assert await handle.result() == ["", "hello", "end"]
    assert (await tracked.run(handle)).steps == []
    run = await tracked.corrected(handle)
    assert [(s.kind, s.name, s.status, s.input) for s in run.steps] == [
        ("signal", "tell", "completed", ["hello"]),
        ("signal", "tell", "completed", ["end"]),
    ]


async def test_an_accepted_update(tracked: Tracked) -> None:
    async with tracked.worker([Mailbox], [look_up]):
        handle = await tracked.start("Mailbox")
        assert await handle.execute_update("rename", args=["bob", ""], id="u-1") == {"name": "BOB"}
        await handle.signal("tell", "end")
        await handle.result()
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        step = seen.step("rename")
        assert (step.kind, step.type, step.status) == ("update", "rename", "completed")
        assert (step.input, step.output, step.detail) == (["bob", ""], {"name": "BOB"}, None)
        assert seen.started_at <= step.started_at <= step.finished_at <= seen.finished_at
        assert seen.step("look_up").output == "BOB"
        assert seen.metadata == {"name": "BOB"}


async def test_a_rejected_update_is_known_live_only(tracked: Tracked) -> None:
    async with tracked.worker([Mailbox], [look_up]):
        handle = await tracked.start("Mailbox")
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update("rename", args=["", ""], id="u-1")
        # The id was not used up, for the server remembers accepted updates only.
        assert await handle.execute_update("rename", args=["bob", ""], id="u-1") == {"name": "BOB"}
        await handle.signal("tell", "end")
        await handle.result()
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        rejected, accepted = (step for step in seen.steps if step.kind == "update")
        assert (rejected.status, rejected.error_type) == ("failed", "ValueError")
        assert (rejected.error_message, rejected.input) == ("expected a word", ["", ""])
        assert rejected.detail == {"rejected": True}
        assert (accepted.status, accepted.output, accepted.detail) == (
            "completed",
            {"name": "BOB"},
            None,
        )


@pytest.mark.parametrize(
    ("how", "status", "error"),
    [("fail", "failed", "NoSuchName"), ("cancel", "failed", "CancelledError")],
)
async def test_a_failed_handler(tracked: Tracked, how: str, status: str, error: str) -> None:
    async with tracked.worker([Mailbox], [look_up]):
        handle = await tracked.start("Mailbox")
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update("rename", args=["bob", how])
        await handle.signal("tell", "end")
        await handle.result()
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert seen.status == "completed"
        step = seen.step("rename")
        assert (step.status, step.error_type, step.output) == (status, error, None)


async def test_signal_with_start(tracked: Tracked) -> None:
    client, workflow_id = tracked.client(), f"mailbox-{uuid.uuid4().hex[:8]}"
    async with tracked.worker([Mailbox], [look_up], client=client):
        with tracked_ref("order", "o-1", metadata={"dept": "x"}):
            handle = await tracked.start(
                "Mailbox",
                "hi",
                client=client,
                id=workflow_id,
                start_signal="tell",
                start_signal_args=["end"],
            )
        assert await handle.result() == ["hi", "end"]
    [run] = await tracked.runs()
    handle = client.get_workflow_handle(workflow_id, run_id=str(run.temporal_run_id))
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.ref_type, seen.ref_id) == ("completed", "order", "o-1")
        assert seen.metadata == {"dept": "x"}


async def test_update_with_start(tracked: Tracked) -> None:
    client = tracked.client()
    start: Any = WithStartWorkflowOperation(
        "Mailbox",
        args=["hi"],
        id=f"mailbox-{uuid.uuid4().hex[:8]}",
        task_queue=tracked.queue,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
    )
    async with tracked.worker([Mailbox], [look_up], client=client):
        with tracked_ref("order", "o-1"):
            updated = await client.execute_update_with_start_workflow(
                "rename", args=["bob", ""], start_workflow_operation=start
            )
        assert updated == {"name": "BOB"}
        handle: Handle = await start.workflow_handle()
        await handle.signal("tell", "end")
        await handle.result()
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.ref_type, seen.ref_id) == ("completed", "order", "o-1")
        assert seen.step("rename").status == "completed"


async def test_started_by_a_schedule(tracked: Tracked) -> None:
    client = tracked.client()
    action = ScheduleActionStartWorkflow(
        "Mailbox", "hi", id="scheduled", task_queue=tracked.queue, execution_timeout=_SOON
    )
    schedule = Schedule(action=action, spec=ScheduleSpec())
    async with tracked.worker([Mailbox], [look_up], client=client):
        for number in (1, 2):
            # The same object again, whose action must not remember the first ref.
            with tracked_ref("report", f"r-{number}", metadata={"number": number}):
                handle = await client.create_schedule(f"daily-{number}", schedule)
        await handle.trigger()
        [run] = await eventually(tracked.runs)
        started = client.get_workflow_handle(run.workflow_id, run_id=str(run.temporal_run_id))
        await started.signal("tell", "end")
        assert await started.result() == ["hi", "end"]
    run = await tracked.run(started)
    for seen in (run, await tracked.corrected(started)):
        assert (seen.status, seen.ref_type, seen.ref_id) == ("completed", "report", "r-2")
        assert seen.metadata == {"number": 2}
    assert action.memo is None


_SOON = timedelta(seconds=20)
