"""What only queues and workers know of an open run: whether anybody polls, and which messages its
code takes. Asked sparingly, answers kept for a while."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client
from temporalio.service import RPCError

from tracker.core.waiting import Pending
from tracker.temporal.task_queues import ACTIVITIES, WORKFLOWS, describe_task_queue

logger = logging.getLogger(__name__)

KEPT = 10.0
"""Seconds that an answer about a queue is good for."""
QUEUES_MAX = 1000
ANSWERS_MAX = 5000
QUESTION = timedelta(seconds=2)
"""What a worker gets to answer."""
_METADATA = "__temporal_workflow_metadata"

Names = tuple[tuple[str, ...], tuple[str, ...]]


class Pollers:
    """Asks for one namespace."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._served: dict[tuple[str, int], tuple[float, bool | None]] = {}
        self._names: dict[UUID, tuple[int, Names | None]] = {}

    async def is_served(self, task_queue: str, kind: TaskQueueType.ValueType) -> bool | None:
        """Whether a worker polled the queue within the last minutes, as Temporal remembers; None if
        it does not tell."""
        key = (task_queue, int(kind))
        asked_at, served = self._served.get(key, (-KEPT, None))
        if time.monotonic() - asked_at < KEPT:
            return served
        try:
            served = bool((await describe_task_queue(self._client, task_queue, kind)).pollers)
        except RPCError:  # Credentials that may not ask, above all: no reason to stop.
            logger.debug("queue %s cannot be described", task_queue, exc_info=True)
            served = None
        if len(self._served) >= QUEUES_MAX:
            self._served.clear()
        self._served[key] = (time.monotonic(), served)
        return served

    async def completed(self, pending: Pending) -> Pending:
        """With what queues know: only of what waits to be picked up."""
        task, activities = pending.task, list(pending.activities)
        if task is not None and not task.is_started:
            served = await self.is_served(task.task_queue, WORKFLOWS)
            task = replace(task, served=served)
        for n, activity in enumerate(activities):
            if activity.task_queue and not activity.is_started and activity.next_at is None:
                served = await self.is_served(activity.task_queue, ACTIVITIES)
                activities[n] = replace(activity, served=served)
        return replace(pending, task=task, activities=activities)

    def was_asked(self, run_key: UUID, length: int) -> bool:
        """Whether the worker of a run was asked at this history length, with an answer or not."""
        return self._names.get(run_key, (-1, None))[0] == length

    def names(self, run_key: UUID) -> Names | None:
        """Signals and updates that a run takes, as its worker told last."""
        return self._names.get(run_key, (-1, None))[1]

    async def ask_names(self, workflow_id: str, run_key: UUID, length: int) -> None:
        """Ask the worker of a run."""
        if len(self._names) >= ANSWERS_MAX:
            self._names.clear()
        handle = self._client.get_workflow_handle(workflow_id, run_id=str(run_key))
        names: Names | None = None
        try:
            told = await handle.query(_METADATA, result_type=WorkflowMetadata, rpc_timeout=QUESTION)
        except Exception:  # Old SDKs, no worker, broken code: nothing that concerns the tables.
            logger.debug("no answer from the worker of run %s", run_key, exc_info=True)
        else:
            names = (
                tuple(one.name for one in told.definition.signal_definitions if one.name),
                tuple(one.name for one in told.definition.update_definitions if one.name),
            )
        self._names[run_key] = (length, names)
