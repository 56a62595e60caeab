"""Timeouts: a worker sees little of them, history corrects what was told live."""

from __future__ import annotations

from datetime import timedelta

import pytest
from temporalio.client import WorkflowFailureError

from tests.temporal.tracking.ending_workflows import Gates, TimingOut, hang
from tests.temporal.tracking.harness import Handle, Tracked
from tests.waiting import eventually
from tracker.temporal import deadlines

SHORT = timedelta(milliseconds=300)
KINDS = ["heartbeat", "start_to_close", "schedule_to_close"]


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of these tests lets no timer fire late."""
    monkeypatch.setattr(deadlines, "TIMER_GRACE", timedelta(0))


@pytest.mark.usefixtures("no_grace")
@pytest.mark.parametrize("kind", KINDS)
async def test_a_timeout_that_ends_the_step(tracked: Tracked, kind: str) -> None:
    gates, error = Gates(), f"TimeoutError/{kind.upper()}"
    async with tracked.worker([TimingOut], [gates.wait_at_gate]):
        handle = await tracked.start("TimingOut", kind, 1)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        await eventually(lambda: is_failed(tracked, handle))
        run = await tracked.run(handle)
        assert (run.error_type, run.statuses) == (error, [("wait_at_gate", "started")])
        assert run.step("wait_at_gate").outcomes == [(1, "running")]
        gates.opened.set()

    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.error_type) == ("failed", error)
        step = seen.step("wait_at_gate")
        assert (step.status, step.error_type, step.output) == ("timed_out", error, None)
        (only,) = step.tries
        assert (only.outcome, only.error_type, only.next_retry_at) == ("timed_out", error, None)
        assert f"activity {kind.title().replace('_', '')} timeout" in only.error_message
        assert SHORT <= only.finished_at - step.scheduled_at < SHORT * 5
        assert step.finished_at == only.finished_at


async def test_a_zombie_is_believed_until_history_tells(tracked: Tracked) -> None:
    gates, error = Gates(), "TimeoutError/START_TO_CLOSE"
    async with tracked.worker([TimingOut], [gates.wait_at_gate]):
        handle = await tracked.start("TimingOut", "start_to_close", 1)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        gates.opened.set()
    # The server's timers may be late, so a report just after the deadline may have been taken.
    assert (await tracked.run(handle)).statuses == [("wait_at_gate", "completed")]
    step = (await tracked.corrected(handle)).step("wait_at_gate")
    assert (step.status, step.output, step.outcomes) == ("timed_out", None, [(1, "timed_out")])
    assert step.error_type == step.tries[0].error_type == error


@pytest.mark.usefixtures("no_grace")
@pytest.mark.parametrize("kind", ["heartbeat", "start_to_close"])
async def test_a_timeout_before_another_attempt(tracked: Tracked, kind: str) -> None:
    gates = Gates()
    async with tracked.worker([TimingOut], [gates.wait_at_gate]):
        handle = await tracked.start("TimingOut", kind, 3)
        await gates.entered.wait()
        assert await handle.result() == 2
        step = (await tracked.run(handle)).step("wait_at_gate")
        assert (step.status, step.outcomes) == ("completed", [(1, "lost"), (2, "completed")])
        gates.opened.set()

    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        step = seen.step("wait_at_gate")
        assert (step.status, step.attempts, step.output) == ("completed", 2, 2)
        assert step.outcomes == [(1, "timed_out"), (2, "completed")]
        first, second = step.tries
        assert first.error_type == f"TimeoutError/{kind.upper()}"
        assert first.finished_at - first.started_at == SHORT
        assert first.next_retry_at - first.finished_at == timedelta(milliseconds=20)
        assert first.next_retry_at <= second.started_at
        assert step.finished_at == second.finished_at


async def test_the_server_tells_a_heartbeating_zombie(tracked: Tracked) -> None:
    async with tracked.worker([TimingOut], [hang]):
        handle = await tracked.start("TimingOut", "start_to_close", 1, "hang")
        with pytest.raises(WorkflowFailureError):
            await handle.result()

        async def ended() -> bool:
            return (await tracked.run(handle)).statuses == [("hang", "timed_out")]

        await eventually(ended)
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        step = seen.step("hang")
        assert (step.status, step.outcomes) == ("timed_out", [(1, "timed_out")])
        assert step.error_type == step.tries[0].error_type == "TimeoutError/START_TO_CLOSE"


async def is_failed(tracked: Tracked, handle: Handle) -> bool:
    """Whether the run is on record as failed."""
    return (await tracked.run(handle)).status == "failed"
