"""What Temporal tells of task queues: who polls, what waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeTaskQueueResponse
from temporalio.client import Client
from temporalio.service import RPCError

from tracker.errors import TrackerError
from tracker.models.queues import (
    TASK_QUEUES_MAX,
    PolledQueue,
    QueueFilter,
    QueueRead,
    Queues,
    QueueTasks,
    TaskKind,
    WorkerRead,
    Workers,
)
from tracker.store.database import Database
from tracker.store.task_queues import known_task_queues
from tracker.temporal.rpc import CALL_SECONDS, bounded_call, translate

WORKFLOWS = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
KEPT = 2.0
"""Seconds for which an answer of Temporal is given again: pages poll."""
CALLS_AT_ONCE = 10
_KINDS: tuple[TaskKind, ...] = ("workflow", "activity")
_TYPES = (WORKFLOWS, ACTIVITIES)

Described = tuple[str, tuple[DescribeTaskQueueResponse, DescribeTaskQueueResponse]]
"""A queue's name, with what Temporal tells of its workflow and its activity tasks."""


class TaskQueues:
    """Asks about the task queues of a client's namespace.

    Args:
        database: Open.
        client: May be lazy: Temporal need not be there.
    """

    def __init__(self, database: Database, client: Client) -> None:
        self._database = database
        self._client = client
        self._kept: dict[str, tuple[float, Described]] = {}
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)

    async def queues(self, filters: QueueFilter) -> Queues:
        """Task queues with their backlogs.

        Raises:
            TemporalUnavailable: Temporal does not answer.
        """
        described, truncated = await self._described(filters)
        return Queues(
            queues=[
                QueueRead(task_queue=name, workflow=_tasks(answers[0]), activity=_tasks(answers[1]))
                for name, answers in described
            ],
            truncated=truncated,
        )

    async def workers(self, filters: QueueFilter) -> Workers:
        """Workers that polled lately.

        Raises:
            TemporalUnavailable: Temporal does not answer.
        """
        described, truncated = await self._described(filters)
        return Workers(workers=_workers(described), truncated=truncated)

    async def _described(self, filters: QueueFilter) -> tuple[list[Described], bool]:
        names: Sequence[str] = sorted(set(filters.task_queue))
        if not names:
            names = await known_task_queues(
                self._database, self._client.namespace, TASK_QUEUES_MAX + 1
            )
        asked = names[:TASK_QUEUES_MAX]
        try:
            async with bounded_call(CALL_SECONDS), asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._describe(name)) for name in asked]
        except* TrackerError as errors:
            raise _first(errors) from errors
        return [task.result() for task in tasks], len(names) > TASK_QUEUES_MAX

    async def _describe(self, name: str) -> Described:
        at, kept = self._kept.get(name, (0.0, None))
        if kept is not None and time.monotonic() - at < KEPT:
            return kept
        async with self._calls, bounded_call(CALL_SECONDS):
            try:
                answers = [await describe_task_queue(self._client, name, of) for of in _TYPES]
            except RPCError as error:
                raise translate(error) from error
        described: Described = (name, (answers[0], answers[1]))
        if len(self._kept) >= TASK_QUEUES_MAX * 10:
            self._kept.clear()
        self._kept[name] = (time.monotonic(), described)
        return described


async def describe_task_queue(
    client: Client, task_queue: str, kind: TaskQueueType.ValueType
) -> DescribeTaskQueueResponse:
    """What Temporal tells of one kind of tasks of a queue: one call, five seconds at most.

    Raises:
        RPCError: Temporal refuses, or does not answer.
    """
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=task_queue),
        task_queue_type=kind,
        report_stats=True,
    )
    return await client.workflow_service.describe_task_queue(
        request, retry=False, timeout=timedelta(seconds=CALL_SECONDS)
    )


def _tasks(answer: DescribeTaskQueueResponse) -> QueueTasks:
    stats = answer.stats
    return QueueTasks(
        pollers=len(answer.pollers),
        backlog=stats.approximate_backlog_count,
        backlog_age=stats.approximate_backlog_age.ToTimedelta().total_seconds(),
        added=round(stats.tasks_add_rate, 3),
        dispatched=round(stats.tasks_dispatch_rate, 3),
        build_ids=_build_ids(answer.pollers),
    )


def _workers(described: Iterable[Described]) -> list[WorkerRead]:
    polls: dict[str, list[tuple[PolledQueue, PollerInfo]]] = {}
    for polled, poller in _pollers(described):
        polls.setdefault(poller.identity, []).append((polled, poller))
    workers = [
        WorkerRead(
            identity=identity,
            build_ids=_build_ids(poller for _, poller in of),
            seen_at=max((p.seen_at for p, _ in of if p.seen_at), default=None),
            polls=[polled for polled, _ in of],
        )
        for identity, of in polls.items()
    ]
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(workers, key=lambda worker: worker.seen_at or never, reverse=True)


def _pollers(described: Iterable[Described]) -> Iterator[tuple[PolledQueue, PollerInfo]]:
    for name, answers in described:
        for kind, answer in zip(_KINDS, answers, strict=True):
            for poller in answer.pollers:
                seen_at = None
                if poller.HasField("last_access_time"):
                    seen_at = poller.last_access_time.ToDatetime(tzinfo=UTC)
                yield PolledQueue(task_queue=name, kind=kind, seen_at=seen_at), poller


def _build_ids(pollers: Iterable[PollerInfo]) -> list[str]:
    """Of worker deployments, else of the older versioning; empty for workers without either."""
    found = {
        poller.deployment_options.build_id or poller.worker_version_capabilities.build_id
        for poller in pollers
    }
    return sorted(found - {""})


def _first(errors: BaseExceptionGroup[TrackerError]) -> TrackerError:
    error = errors.exceptions[0]
    return error if isinstance(error, TrackerError) else _first(error)
