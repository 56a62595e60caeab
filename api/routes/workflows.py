"""Workflows: one workflow type for one ref, over all its runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from api.deps import ReadingSome
from api.errors import READS, declared
from api.parameters import documented, from_query
from api.routing import Route
from tracker.models.filters import WorkflowFilter
from tracker.models.wire import WorkflowPage
from tracker.store import workflows

router = APIRouter(prefix="/v1/workflows", tags=["workflows"], route_class=Route)


@router.get(
    "",
    operation_id="list_workflows",
    summary="Workflows with their latest status, newest first",
    responses=declared(*READS),
    openapi_extra=documented(WorkflowFilter),
)
async def list_workflows(
    access: ReadingSome,
    filters: Annotated[WorkflowFilter, from_query(WorkflowFilter)],
) -> WorkflowPage:
    """A page of workflows: the first run's input, the latest run's status and output, and how many
    runs there are, exactly."""
    services = access.services
    filters = access.caller.restriction.workflows(filters)
    return await workflows.list_workflows(services.database, services.namespace, filters)
