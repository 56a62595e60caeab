"""What an open run waits for, told from what Temporal says is pending: pure, for `run.waiting_on`.

Each entry is a JSON object with a `kind`; docs/consistency.md lists them. What a reader gets wrong:
an empty list is not "nothing": a run with nothing pending waits in its own code, usually for a
signal or an update, and is told as `message`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

ENTRIES_MAX = 20
"""Of one run; what comes on top is told as a count."""
TEXT_MAX = 200
"""Characters of an error message."""

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingActivity:
    """Attributes:
    step: Name of the step, or the activity type.
    is_started: An attempt is under way.
    next_at: When the next attempt is due.
    error: Message of the latest failure.
    served: Whether anybody polls its queue; None: unknown.
    """

    step: str
    attempt: int
    is_started: bool
    is_paused: bool = False
    started_at: datetime | None = None
    next_at: datetime | None = None
    worker: str | None = None
    error: str | None = None
    task_queue: str | None = None
    served: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingStep:
    """A child, timer or Nexus operation that is open.

    Attributes:
        kind: `child_workflow`, `timer` or `nexus_operation`.
        until: When a timer fires.
        workflow_id: Of a child.
    """

    kind: str
    step: str
    until: str | None = None
    workflow_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTask:
    """The workflow task that is scheduled or under way.

    Attributes:
        attempt: From the second one on it has failed, or nobody finished it.
        served: Whether anybody polls its queue; None: unknown.
    """

    attempt: int
    is_started: bool
    scheduled_at: datetime | None
    task_queue: str
    served: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """All that Temporal says about an open run.

    Attributes:
        signals, updates: Names that its code takes, where its worker told them.
    """

    paused_at: datetime | None = None
    task: PendingTask | None = None
    activities: Sequence[PendingActivity] = ()
    steps: Sequence[PendingStep] = ()
    signals: Sequence[str] | None = None
    updates: Sequence[str] | None = None

    @property
    def is_idle(self) -> bool:
        """Nothing is pending: its own code waits."""
        return not (self.paused_at or self.task or self.activities or self.steps)


def waiting_on(pending: Pending) -> list[Entry]:
    """The entries, most telling first, at most `ENTRIES_MAX` and one that counts the rest."""
    if pending.is_idle:
        names = {"signals": pending.signals, "updates": pending.updates}
        return [_entry("message", **{k: None if v is None else list(v) for k, v in names.items()})]
    entries = list(_entries(pending))
    if len(entries) <= ENTRIES_MAX:
        return entries
    return [*entries[:ENTRIES_MAX], _entry("more", count=len(entries) - ENTRIES_MAX)]


def _entries(pending: Pending) -> Iterator[Entry]:
    if pending.paused_at is not None:
        yield _entry("unpause", since=_text(pending.paused_at))
    if pending.task is not None:
        yield _task(pending.task)
    for activity in pending.activities:
        yield _activity(activity)
    for step in pending.steps:
        yield _entry(step.kind, step=step.step, until=step.until, workflow_id=step.workflow_id)


def _task(task: PendingTask) -> Entry:
    since = _text(task.scheduled_at)
    if not task.is_started and task.served is False:
        return _entry("worker", task_queue=task.task_queue, since=since)
    attempt = task.attempt if task.attempt > 1 else None
    return _entry("workflow_task", task_queue=task.task_queue, since=since, attempt=attempt)


def _activity(activity: PendingActivity) -> Entry:
    step, attempt = activity.step, activity.attempt
    error = None if activity.error is None else activity.error[:TEXT_MAX]
    if activity.is_paused:
        return _entry("unpause", step=step, attempt=attempt)
    if activity.is_started:
        return _entry(
            "activity",
            step=step,
            attempt=attempt,
            since=_text(activity.started_at),
            worker=activity.worker,
            error=error,
        )
    if attempt > 1 and activity.next_at is not None:
        return _entry(
            "retry", step=step, attempt=attempt, until=_text(activity.next_at), error=error
        )
    kind = "worker" if activity.served is False else "queue"
    return _entry(kind, step=step, attempt=attempt, task_queue=activity.task_queue)


def _entry(kind: str, **facts: Any) -> Entry:
    return {"kind": kind} | {name: value for name, value in facts.items() if value is not None}


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
