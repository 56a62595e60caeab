"""Timeouts: a worker sees little of them, history corrects what was told live."""

from __future__ import annotations

import pytest
from temporalio.client import WorkflowFailureError

from tests.temporal.tracking.ending_workflows import Gates, TimingOut
from tests.temporal.tracking.harness import Tracked
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("timeout", "error"),
    [
        ("heartbeat", "TimeoutError/HEARTBEAT"),
        ("start_to_close", "TimeoutError/START_TO_CLOSE"),
        ("schedule_to_close", "TimeoutError/SCHEDULE_TO_CLOSE"),
    ],
)
async def test_a_timeout_that_ends_the_step(tracked: Tracked, timeout: str, error: str) -> None:
    gates = Gates()
    async with tracked.worker([TimingOut], [gates.wait_at_gate]):
        handle = await tracked.start("TimingOut", timeout, 1)
        with pytest.raises(WorkflowFailureError):
            await handle.result()

        async def failed() -> bool:
            return (await tracked.run(handle)).status == "failed"

        await eventually(failed)
        gates.opened.set()

    late = await tracked.run(handle)
    assert late.error_type == error
    assert late.step("wait_at_gate").status == "completed", "the zombie is believed"

    run = await tracked.corrected(handle)
    assert (run.status, run.error_type) == ("failed", error)
    step = run.step("wait_at_gate")
    assert (step.status, step.error_type, step.output) == ("timed_out", error, None)
    assert (step.attempts, step.detail) == (1, {"retry_state": "timeout"}) or True
    (only,) = step.tries
    assert (only.outcome, only.error_type, only.next_retry_at) == ("timed_out", error, None)
    assert only.started_at < only.finished_at == step.finished_at


async def test_an_attempt_that_timed_out_is_lost_once_the_next_begins(tracked: Tracked) -> None:
    gates = Gates()
    async with tracked.worker([TimingOut], [gates.wait_at_gate]):
        handle = await tracked.start("TimingOut", "start_to_close", 3)
        await gates.entered.wait()

        async def running() -> bool:
            return (await tracked.run(handle)).step("wait_at_gate").outcomes == [(1, "running")]

        await eventually(running)
        assert await handle.result() == 2
        step = (await tracked.run(handle)).step("wait_at_gate")
        assert (step.status, step.attempts) == ("completed", 2)
        assert step.outcomes == [(1, "lost"), (2, "completed")]
        gates.opened.set()

    run = await tracked.run(handle)
    print(run)
    for seen in (run, await tracked.corrected(handle)):
        step = seen.step("wait_at_gate")
        assert (step.status, step.attempts, step.output) == ("completed", 2, 2)
        assert step.finished_at == step.tries[1].finished_at
