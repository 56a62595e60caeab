"""Workflow types: what can be started."""

from __future__ import annotations

from fastapi import APIRouter

from api.deps import Reading
from api.errors import READS, declared
from api.routing import Route
from tracker.models.wire import WorkflowTypes
from tracker.store.workflows import list_workflow_types

router = APIRouter(prefix="/v1/workflow-types", tags=["workflows"], route_class=Route)


@router.get(
    "",
    operation_id="workflow_types",
    summary="Workflow types that workers serve, or that were seen",
    responses=declared(*READS),
)
async def workflow_types(access: Reading) -> WorkflowTypes:
    """By name: where each runs, and the JSON Schema of its input where a worker announced one."""
    services = access.services
    types = await list_workflow_types(services.database, services.namespace)
    return WorkflowTypes(workflow_types=types)
