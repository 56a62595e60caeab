"""Attempts of an activity: each of them, with its worker, times, outcome, error and next retry."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError

from tests.temporal.tracking.harness import Handle, RecordedRun, Tracked
from tests.temporal.tracking.retry_workflows import (
    ACTIVITIES,
    WORKFLOWS,
    BreakingOff,
    Charging,
    Refusing,
    Slow,
    Stepping,
)
from tests.waiting import eventually
from tracker.temporal import attempts

BOUND = timedelta(seconds=2)


async def test_success(tracked: Tracked) -> None:
    handle, run = await ran(tracked, Charging, 1, 1)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.input, seen.output) == ("completed", [1, 1], {"charged": 5})
        assert (seen.workflow_type, seen.workflow_id) == ("Charging", handle.id)
        assert (seen.error_type, seen.attempt, seen.task_queue) == (None, 1, tracked.queue)
        assert seen.worker_identity == identity(tracked)
        (charge,) = seen.steps
        assert (charge.name, charge.type, charge.kind) == ("charge", "charge", "activity")
        assert (charge.status, charge.attempts, charge.max_attempts) == ("completed", 1, 1)
        assert (charge.input, charge.output) == ([5, 1], {"charged": 5})
        assert charge.task_queue == tracked.queue
        (only,) = charge.tries
        assert (only.number, only.outcome, only.next_retry_at) == (1, "completed", None)
        assert (only.worker_identity, only.task_queue) == (identity(tracked), tracked.queue)
        assert only.annotations == {"amount": 5, "attempt": 1}
        assert charge.scheduled_at <= only.scheduled_at <= only.started_at <= only.finished_at
        assert seen.started_at <= charge.scheduled_at
        assert seen.finished_at - seen.started_at < BOUND


async def test_failing_twice_then_succeeding(tracked: Tracked) -> None:
    handle, run = await ran(tracked, Charging, 3, 5)
    for seen in (run, await tracked.corrected(handle)):
        assert seen.status == "completed"
        charge = seen.step("charge")
        assert (charge.status, charge.attempts, charge.max_attempts) == ("completed", 3, 5)
        assert (charge.error_type, charge.next_retry_at) == (None, None)
        assert charge.outcomes == [(1, "failed"), (2, "failed"), (3, "completed")]
        first, second, third = charge.tries
        for number, failed in enumerate([first, second], start=1):
            assert failed.error_type == "CardDeclined"
            assert failed.error_message == f"declined at attempt {number}"
            assert "in charge" in failed.error_stack
            assert failed.annotations == {"amount": 5, "attempt": number}
        assert first.next_retry_at - first.finished_at == timedelta(milliseconds=20)
        assert second.next_retry_at - second.finished_at == timedelta(milliseconds=40)
        assert first.next_retry_at <= second.started_at < first.next_retry_at + BOUND
        assert second.next_retry_at <= third.started_at < second.next_retry_at + BOUND
        assert (charge.started_at, charge.last_started_at) == (first.started_at, third.started_at)


async def test_exhausted(tracked: Tracked) -> None:
    handle, run = await ran(tracked, Charging, 9, 2, fails=True)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.error_type) == ("failed", "CardDeclined")
        assert seen.error_message == "declined at attempt 2"
        charge = seen.step("charge")
        assert (charge.status, charge.error_type, charge.attempts) == ("failed", "CardDeclined", 2)
        assert charge.outcomes == [(1, "failed"), (2, "failed")]
        assert [one.next_retry_at is None for one in charge.tries] == [False, True]
        assert charge.finished_at >= charge.tries[-1].finished_at - BOUND


@pytest.mark.parametrize(
    ("how", "type_", "message"),
    [
        ("flag", "NoSuchCard", "no such card"),
        ("own", "NonRetryable", "never"),
        ("by type", "CardDeclined", "by type"),
    ],
)
async def test_non_retryable(tracked: Tracked, how: str, type_: str, message: str) -> None:
    handle, run = await ran(tracked, Refusing, how, fails=True)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.error_type) == ("failed", type_)
        refuse = seen.step("refuse")
        assert (refuse.status, refuse.error_type) == ("failed", type_)
        assert refuse.outcomes == [(1, "failed")]
        (only,) = refuse.tries
        assert (only.error_message, only.next_retry_at) == (message, None)
        assert "in refuse" in only.error_stack


async def test_a_delay_that_the_activity_asks_for(tracked: Tracked) -> None:
    handle, run = await ran(tracked, Refusing, "later")
    for seen in (run, await tracked.corrected(handle)):
        first, second = seen.step("refuse").tries
        assert first.next_retry_at - first.finished_at == timedelta(milliseconds=150)
        assert first.next_retry_at <= second.started_at < first.next_retry_at + BOUND


@pytest.mark.parametrize("how", ["cause", "context"])
async def test_causes_are_told_below_the_stack(tracked: Tracked, how: str) -> None:
    handle, run = await ran(tracked, Refusing, how, 1, fails=True)
    for seen in (run, await tracked.corrected(handle)):
        (only,) = seen.step("refuse").tries
        assert (only.error_type, only.error_message) == ("NotPaid", "not paid")
        assert "Caused by: CardDeclined: by the bank" in only.error_stack


@pytest.mark.parametrize("how", ["plain", "cause", "context"])
async def test_linear_backoff(tracked: Tracked, how: str) -> None:
    handle, run = await ran(tracked, Stepping, how, fails=True)
    type_ = "CardDeclined" if how == "plain" else "NotPaid"
    for seen in (run, await tracked.corrected(handle)):
        ask = seen.step("ask nicely")
        assert (ask.type, ask.status, ask.max_attempts) == ("refuse", "failed", 3)
        assert ask.outcomes == [(1, "failed"), (2, "failed"), (3, "failed")]
        first, second, third = ask.tries
        assert first.next_retry_at - first.finished_at == timedelta(milliseconds=20)
        assert second.next_retry_at - second.finished_at == timedelta(milliseconds=40)
        assert second.next_retry_at <= third.started_at < second.next_retry_at + BOUND
        for one in ask.tries:
            assert one.error_type == type_
            assert ("Caused by: CardDeclined: by the bank" in one.error_stack) == (how != "plain")


@pytest.mark.parametrize(
    ("how", "type_"),
    [
        ("cancels itself", "CancelledError"),
        ("heartbeat", "CancelledError"),
        ("unserialisable", "TypeError"),
    ],
)
async def test_an_attempt_that_temporal_takes_for_a_failure(
    tracked: Tracked, how: str, type_: str
) -> None:
    handle, run = await ran(tracked, BreakingOff, how)
    for seen in (run, await tracked.corrected(handle)):
        step = seen.step("break_off")
        assert (step.status, step.output) == ("completed", "second time")
        assert step.outcomes == [(1, "failed"), (2, "completed")]
        first, second = step.tries
        assert first.error_type == type_
        assert first.next_retry_at - first.finished_at == timedelta(milliseconds=20)
        assert first.next_retry_at <= second.started_at


async def test_progress_is_the_latest_heartbeat(tracked: Tracked) -> None:
    handle, run = await ran(tracked, Stepping, "progress")
    for seen in (run, await tracked.corrected(handle)):
        count = seen.step("count")
        assert count.progress == {"done": 3, "total": 3}
        assert count.output == [2, 3]
        assert count.tries[-1].started_at <= count.progress_at <= count.tries[-1].finished_at


async def test_the_last_heartbeat_before_a_silence(
    tracked: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "PROGRESS_INTERVAL", 0.1)
    slow = Slow()
    async with tracked.worker(WORKFLOWS, [slow.fall_silent]):
        handle = await tracked.start("Silent")

        async def shows_the_second() -> bool:
            run = await tracked.run(handle)
            return [step.progress for step in run.steps] == [{"done": 2}]

        await eventually(shows_the_second)
        assert (await tracked.run(handle)).statuses == [("fall_silent", "started")]
        slow.opened.set()
        await handle.result()


async def ran(
    tracked: Tracked, workflow: type, *args: Any, fails: bool = False
) -> tuple[Handle, RecordedRun]:
    """A workflow that ran to its end, and what was recorded of it live."""
    async with tracked.worker(WORKFLOWS, ACTIVITIES):
        handle = await tracked.start(workflow.__name__, *args)
        if fails:
            with pytest.raises(WorkflowFailureError):
                await handle.result()
        else:
            await handle.result()
    run = await tracked.run(handle)
    assert not run.from_history
    return handle, run


def identity(tracked: Tracked) -> str:
    """Of this process's workers."""
    return tracked.connection.service_client.config.identity
