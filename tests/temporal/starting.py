"""Starts and relays on a real Temporal, and what Temporal then knows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError, RPCStatusCode

from tests.starts import a_leased_start, run_row
from tracker.outbox import (
    Relay,
    RelayOptions,
)
from tracker.store.database import Database
from tracker.store.outbox import LeasedStart
from tracker.temporal.start_encoder import StartEncoder
from tracker.temporal.start_service import StartService
from tracker.temporal.starter import TemporalStarter

QUICK = RelayOptions(poll=0.05, pause_max=0.2)


def a_service(store: Database, client: Client, **options: Any) -> StartService:
    starter = TemporalStarter(client, seconds=options.pop("seconds", 2.0))
    return StartService(store, StartEncoder(client.namespace), starter, **options)


def a_relay(store: Database, client: Client, seconds: float = 2.0) -> Relay:
    return Relay(store, client.namespace, TemporalStarter(client, seconds=seconds), QUICK)


async def a_lease(store: Database, client: Client, *, seconds: float = 30.0) -> LeasedStart:
    return await a_leased_start(store, client.namespace, seconds=seconds)


async def begun_elsewhere(client: Client, workflow_id: str, type_: str = "Foreign") -> str:
    """A run of that workflow id by somebody who does not know us; its run id."""
    handle = await client.start_workflow(type_, id=workflow_id, task_queue="elsewhere")
    assert handle.result_run_id
    return handle.result_run_id


async def runs_of(client: Client, workflow_id: str) -> list[str]:
    query = f"WorkflowId = '{workflow_id}'"
    return [found.run_id async for found in client.list_workflows(query)]


async def status(store: Database, run_id: UUID) -> str:
    return (await run_row(store, run_id))["status"]


async def reached(store: Database, run_id: UUID, wanted: str) -> bool:
    return await status(store, run_id) == wanted


async def describes(client: Client, workflow_id: str) -> WorkflowExecutionDescription | None:
    """What Temporal knows of the latest run of a workflow id; None if nothing."""
    try:
        return await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def cancel_requested(client: Client, workflow_id: str) -> bool:
    described = await client.get_workflow_handle(workflow_id).describe()
    return described.raw_description.workflow_extended_info.cancel_requested
