"""What an open run waits for, from what is pending: bounded, and never an empty list."""

from __future__ import annotations

from datetime import UTC, datetime

from tracker.core.waiting import (
    ENTRIES_MAX,
    TEXT_MAX,
    Pending,
    PendingActivity,
    PendingStep,
    PendingTask,
    waiting_on,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_nothing_pending_is_its_own_code() -> None:
    assert waiting_on(Pending()) == [{"kind": "message"}]
    told = waiting_on(Pending(signals=("go",), updates=()))
    assert told == [{"kind": "message", "signals": ["go"], "updates": []}]


def test_a_queue_that_nobody_polls_is_told_before_the_work_in_it() -> None:
    task = PendingTask(attempt=1, is_started=False, scheduled_at=NOON, task_queue="q", served=False)
    activity = PendingActivity(
        step="ship", attempt=1, is_started=False, task_queue="q", served=False
    )
    kinds = [one["kind"] for one in waiting_on(Pending(task=task, activities=[activity]))]
    assert kinds == ["worker", "worker"]


def test_a_failing_workflow_task_tells_its_attempt() -> None:
    task = PendingTask(attempt=3, is_started=False, scheduled_at=NOON, task_queue="q", served=True)
    [entry] = waiting_on(Pending(task=task))
    assert (entry["kind"], entry["attempt"]) == ("workflow_task", 3)


def test_a_pause_comes_first_and_texts_are_cut() -> None:
    activity = PendingActivity(
        step="ship", attempt=2, is_started=False, next_at=NOON, error="x" * 10_000
    )
    pause, retry = waiting_on(Pending(paused_at=NOON, activities=[activity]))
    assert pause["kind"] == "unpause"
    assert retry == {
        "kind": "retry",
        "step": "ship",
        "attempt": 2,
        "until": NOON.isoformat(),
        "error": "x" * TEXT_MAX,
    }


def test_what_is_too_much_is_counted() -> None:
    timers = [PendingStep(kind="timer", step="t") for _ in range(ENTRIES_MAX + 7)]
    told = waiting_on(Pending(steps=timers))
    assert len(told) == ENTRIES_MAX + 1
    assert told[-1] == {"kind": "more", "count": 7}
