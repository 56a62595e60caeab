"""Starts, waits for and reads runs of `history_workflows`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.temporal.history_workflows import ACTIVITIES, WORKFLOWS
from tests.temporal.projected import events_of
from tests.waiting import eventually

Handle = WorkflowHandle[Any, Any]


@asynccontextmanager
async def worker(client: Client, queue: str, **options: Any) -> AsyncGenerator[Worker]:
    """A worker that serves them, without the plugin."""
    given: dict[str, Any] = {
        "workflows": WORKFLOWS,
        "activities": ACTIVITIES,
        "workflow_runner": UnsandboxedWorkflowRunner(),
    }
    async with Worker(client, task_queue=queue, **(given | options)) as running:
        yield running


async def start(client: Client, queue: str, run: Any, *args: Any, **options: Any) -> Handle:
    """Start a run; the handle is of this very run."""
    workflow_id = options.pop("id", f"workflow-{uuid4()}")
    handle = await client.start_workflow(
        run, args=args, id=workflow_id, task_queue=queue, **options
    )
    return client.get_workflow_handle(handle.id, run_id=handle.result_run_id)


async def finished(handle: Handle) -> Handle:
    """Wait for the end of this very run, whatever it is."""

    async def closed() -> bool:
        return (await handle.describe()).close_time is not None

    await eventually(closed)
    return handle


async def until_event(handle: Handle, kind: EventType.ValueType) -> None:
    """Wait until the history has an event of that kind."""

    async def seen() -> bool:
        return any(event.event_type == kind for event in await events_of(handle))

    await eventually(seen)


async def until_handled(handle: Handle, kind: EventType.ValueType) -> None:
    """Wait until the history has an event of that kind, and workflow code has run after it."""

    async def seen() -> bool:
        kinds = [event.event_type for event in await events_of(handle)]
        after = kinds[kinds.index(kind) :] if kind in kinds else []
        return EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED in after

    await eventually(seen)
