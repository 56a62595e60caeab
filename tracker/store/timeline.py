"""What happened in a run, oldest first: derived from its detail, kept nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from tracker.core.status import AttemptOutcome
from tracker.models.wire import (
    AttemptRead,
    ErrorInfo,
    RunDetail,
    StepRead,
    Timeline,
    TimelineEntry,
)


def timeline_of(run: RunDetail) -> Timeline:
    """The moments of a run, its steps and their attempts.

    Entries of one instant keep the order of cause: a step is scheduled before its attempt starts,
    and ends before its run.
    """
    entries = [*_opening(run)]
    for step in run.steps:
        entries += _of_step(step)
    entries += _closing(run)
    return Timeline(
        run_id=run.run_id,
        entries=sorted(entries, key=lambda entry: entry.at),
        truncated=run.steps_truncated or run.attempts_truncated,
    )


def _opening(run: RunDetail) -> Iterator[TimelineEntry]:
    if run.accepted_at is not None:
        yield TimelineEntry(at=run.accepted_at, event="run.accepted")
    if run.started_at is not None:
        yield TimelineEntry(at=run.started_at, event="run.started")
    if run.task_failure is not None:
        failure = run.task_failure
        message = failure.message or failure.type
        yield TimelineEntry(at=failure.at, event="run.task_failed", message=message)


def _of_step(step: StepRead) -> Iterator[TimelineEntry]:
    if step.scheduled_at is not None:
        yield _entry(step, step.scheduled_at, "step.scheduled")
    if step.started_at is not None and not step.attempts:
        yield _entry(step, step.started_at, "step.started")
    for attempt in step.attempts:
        yield from _of_attempt(step, attempt)
    if step.progress_at is not None:
        yield _entry(step, step.progress_at, "step.progressed")
    if step.finished_at is not None:
        yield _entry(step, step.finished_at, f"step.{step.status}", error=step.error)


def _of_attempt(step: StepRead, attempt: AttemptRead) -> Iterator[TimelineEntry]:
    yield _entry(step, attempt.started_at, "attempt.started", attempt)
    if attempt.finished_at is not None and attempt.outcome is not AttemptOutcome.RUNNING:
        event = f"attempt.{attempt.outcome}"
        yield _entry(step, attempt.finished_at, event, attempt, error=attempt.error)


def _closing(run: RunDetail) -> Iterator[TimelineEntry]:
    if run.finished_at is not None:
        message = _message(run.error)
        yield TimelineEntry(at=run.finished_at, event=f"run.{run.status}", message=message)


def _entry(
    step: StepRead,
    at: datetime,
    event: str,
    attempt: AttemptRead | None = None,
    *,
    error: ErrorInfo | None = None,
) -> TimelineEntry:
    ended = attempt is not None and event != "attempt.started"
    return TimelineEntry(
        at=at,
        event=event,
        step_id=step.step_id,
        step_name=step.name,
        attempt=None if attempt is None else attempt.number,
        message=_message(error),
        next_retry_at=attempt.next_retry_at if attempt is not None and ended else None,
    )


def _message(error: ErrorInfo | None) -> str | None:
    return None if error is None else error.message or error.type
