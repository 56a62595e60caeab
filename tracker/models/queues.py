"""Answers about task queues and the workers that poll them, as Temporal remembers.

What a reader gets wrong: Temporal forgets a worker only five minutes after its last poll, and its
backlog is an estimate.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from tracker.models.wire import Answer, Name, Wire

TASK_QUEUES_MAX = 100

TaskKind = Literal["workflow", "activity"]


class QueueFilter(Wire):
    """Filters of `GET /v1/queues` and `GET /v1/workers`."""

    task_queue: list[Name] = Field(
        default_factory=list[str],
        max_length=TASK_QUEUES_MAX,
        description="Repeatable: these and no others. Absent: those that the tables know.",
    )


class QueueTasks(Answer):
    """One kind of tasks of a queue.

    Attributes:
        pollers: Workers that polled within the last five minutes; 0 with a backlog: nobody serves.
        backlog: Tasks that wait for a worker, about.
        backlog_age: Seconds for which the oldest of them has waited.
        added, dispatched: Tasks a second, over the last half minute.
        build_ids: Of the pollers.
    """

    pollers: int
    backlog: int
    backlog_age: float
    added: float
    dispatched: float
    build_ids: list[str]


class QueueRead(Answer):
    """A task queue."""

    task_queue: str
    workflow: QueueTasks
    activity: QueueTasks


class Queues(Answer):
    """`GET /v1/queues`, by name.

    Attributes:
        truncated: There are more queues than one answer asks Temporal about.
    """

    queues: list[QueueRead]
    truncated: bool = False


class PolledQueue(Answer):
    """What a worker polls."""

    task_queue: str
    kind: TaskKind
    seen_at: datetime | None = Field(default=None, description="Its last poll.")


class WorkerRead(Answer):
    """A worker process, by the identity that it polls with.

    Attributes:
        seen_at: Its last poll, of any queue.
    """

    identity: str
    build_ids: list[str]
    seen_at: datetime | None = None
    polls: list[PolledQueue]


class Workers(Answer):
    """`GET /v1/workers`, the one seen last first.

    Attributes:
        truncated: There are more queues than one answer asks Temporal about.
    """

    workers: list[WorkerRead]
    truncated: bool = False
