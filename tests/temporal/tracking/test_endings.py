"""The ways in which a run ends, and the runs that come after it in its chain."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner

from tests.temporal.tracking.ending_workflows import (
    WORKFLOWS,
    Buggy,
    EndedByHandler,
    Gates,
    Racing,
    clean_up,
    hang,
)
from tests.temporal.tracking.harness import Handle, RecordedRun, Tracked
from tests.waiting import eventually
from tracker.core.events import RunClosed

ACTIVITIES = [hang, clean_up]


@pytest.mark.parametrize(
    ("how", "status", "steps"),
    [
        ("clean up", "canceled", [("hang", "canceled"), ("clean_up", "completed")]),
        ("plain", "canceled", [("hang", "canceled")]),
        ("swallow", "completed", [("hang", "canceled"), ("clean_up", "completed")]),
    ],
)
async def test_cancel(
    tracked: Tracked, how: str, status: str, steps: list[tuple[str, str]]
) -> None:
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        handle = await tracked.start("Hanging", how)
        await eventually(is_running(tracked, handle))
        await handle.cancel()
        if status == "completed":
            assert await handle.result() == "cancel undone"
        else:
            with pytest.raises(WorkflowFailureError):
                await handle.result()
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.error_type, seen.statuses) == (status, None, steps)
        canceled = seen.step("hang")
        assert (canceled.error_type, canceled.progress) == (None, "alive")
        assert canceled.outcomes == [(1, "canceled")]
        assert (canceled.tries[0].error_type, canceled.tries[0].error_stack) == (None, None)


async def test_cancel_of_an_activity(tracked: Tracked) -> None:
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        handle = await tracked.start("Hanging", "cancel activity")
        assert await handle.result() == "went on"
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert seen.status == "completed"
        canceled = seen.step("hang")
        assert (canceled.status, canceled.outcomes) == ("canceled", [(1, "canceled")])


async def test_a_workflow_that_swallows_its_cancellation(tracked: Tracked) -> None:
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        handle = await tracked.start("Swallowing")
        await handle.cancel()
        assert await handle.result() == "not me"
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.output, seen.error_type) == ("completed", "not me", None)


async def test_terminate(tracked: Tracked) -> None:
    gates = Gates()
    async with tracked.worker(WORKFLOWS, [gates.wait_at_gate]):
        handle = await tracked.start("TimingOut", "none", 1)
        await eventually(is_running(tracked, handle))
        await handle.terminate(reason="no more")
        seen = await tracked.run(handle)
        assert (seen.status, seen.statuses) == ("running", [("wait_at_gate", "started")])
        run = await tracked.corrected(handle)
        assert (run.status, run.error_type) == ("terminated", "TerminatedError")
        assert run.error_message.startswith("no more")
        step = run.step("wait_at_gate")
        assert (step.status, step.error_type) == ("canceled", "RunClosed")
        assert step.finished_at == run.finished_at
        assert step.outcomes == [(1, "lost")]
        gates.opened.set()
    late = await tracked.run(handle)
    assert (late.status, late.statuses) == ("terminated", [("wait_at_gate", "canceled")])
    assert late.step("wait_at_gate").outcomes == [(1, "completed")]


async def test_a_retried_workflow_is_a_chain(tracked: Tracked) -> None:
    policy = RetryPolicy(initial_interval=timedelta(milliseconds=20), maximum_attempts=3)
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        handle = await tracked.start("Retried", 2, retry_policy=policy)
        assert await handle.result() == 2
    first, second = await tracked.runs()
    assert (first.status, first.attempt, first.error_message) == ("failed", 1, "run 1 failed")
    assert (second.status, second.attempt, second.output) == ("completed", 2, 2)
    assert (
        second.continued_from_temporal_run_id
        == second.first_temporal_run_id
        == first.temporal_run_id
    )
    assert first.run_id != second.run_id
    corrected = await tracked.corrected(handle)
    assert (corrected.status, corrected.error_type) == ("failed", "NotYet")
    assert corrected.continued_to_temporal_run_id == second.temporal_run_id


async def test_cron_is_a_chain(tracked: Tracked) -> None:
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        handle = await tracked.start("Quick", "done", cron_schedule="@every 1s")

        async def two_runs() -> list[RecordedRun]:
            runs = await tracked.runs()
            return runs if [run.status for run in runs[:2]] == ["completed"] * 2 else []

        first, second, *_ = await eventually(two_runs)
        await handle.terminate()
    assert first.cron_schedule == second.cron_schedule == "@every 1s"
    assert (
        second.continued_from_temporal_run_id
        == second.first_temporal_run_id
        == first.temporal_run_id
    )
    assert (await tracked.corrected(handle)).continued_to_temporal_run_id == second.temporal_run_id


async def test_a_workflow_task_failure_leaves_the_run_open(tracked: Tracked) -> None:
    gates = Gates()
    Buggy.mended = False
    async with tracked.worker(
        WORKFLOWS,
        [*ACTIVITIES, gates.wait_at_gate],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        handle = await tracked.start("Buggy")

        async def waits_at_the_gate() -> RecordedRun:
            run = await tracked.run(handle)
            assert run.statuses == [("clean_up", "completed"), ("wait_at_gate", "started")]
            assert (run.task_failure_type, run.task_failure_message) == ("ValueError", "a bug")
            return run

        run = await eventually(waits_at_the_gate)
        assert (run.status, run.finished_at, run.error_type) == ("running", None, None)
        gates.opened.set()
        assert await handle.result() == "mended"
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.output, seen.error_type) == ("completed", "mended", None)
        assert (seen.task_failure_type, seen.task_failure_message) == ("ValueError", "a bug")
        assert seen.started_at < seen.task_failed_at < seen.finished_at


@pytest.mark.parametrize(
    ("how", "status", "error"),
    [("continue", "continued_as_new", None), ("fail", "failed", "Signaled")],
)
async def test_ended_by_a_signal_handler(
    tracked: Tracked, how: str, status: str, error: str | None
) -> None:
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        handle = await tracked.start("EndedByHandler")
        await handle.signal("end", how)
        await asyncio.wait([asyncio.ensure_future(handle.result())])
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.error_type) == (status, error)


@pytest.mark.parametrize("how", ["bug", "update", "unserialisable"])
async def test_a_task_failure_by_a_handler_or_a_result(tracked: Tracked, how: str) -> None:
    EndedByHandler.bugs = 0
    async with tracked.worker(WORKFLOWS, ACTIVITIES, workflow_runner=UnsandboxedWorkflowRunner()):
        handle = await tracked.start("EndedByHandler")
        if how == "update":
            assert await handle.execute_update("update") == "updated"
        else:
            await handle.signal("end", how)
        assert await handle.result() == "mended"
    type_ = "TypeError" if how == "unserialisable" else "ValueError"
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.output, seen.error_type) == ("completed", "mended", None)
        assert seen.task_failure_type == type_
    closes = [event for event in tracked.heard if isinstance(event, RunClosed)]
    assert len(closes) == 1, "a close that the SDK could not even send"


async def test_the_close_of_the_longer_history_wins(tracked: Tracked) -> None:
    """A signal that arrives during the last workflow task: the server refuses its completion."""
    first_try = asyncio.Event()
    passed_on = asyncio.Event()

    @activity.defn
    async def hold_task(signals: int) -> None:
        first_try.set()
        await passed_on.wait()

    async with tracked.worker([Racing], [hold_task]):
        handle = await tracked.start("Racing")
        await first_try.wait()
        await handle.signal("nudge")
        passed_on.set()
        assert await handle.result() == 1
    closes = [event for event in tracked.heard if isinstance(event, RunClosed)]
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.output) == ("completed", 1)
    assert len(closes) == 2, "the race did not happen"


def is_running(tracked: Tracked, handle: Handle) -> Any:
    """Whether the run's first step is recorded as being under way."""

    async def check() -> bool:
        runs = [r for r in await tracked.runs() if r.workflow_id == handle.id]
        return bool(runs and runs[0].steps and runs[0].steps[0].status == "started")

    return check
