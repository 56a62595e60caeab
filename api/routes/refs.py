"""Refs: everything of one business object."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from api.deps import ReadingSome
from api.errors import READS, declared
from api.parameters import documented, from_query
from api.routing import Route
from tracker.core.ids import Ref
from tracker.errors import NotFound
from tracker.models.filters import Page
from tracker.models.wire import RefOverview
from tracker.store import workflows

router = APIRouter(prefix="/v1/refs", tags=["refs"], route_class=Route)


@router.get(
    "/{ref_type}/{ref_id:path}",
    operation_id="runs_by_ref",
    summary="Everything of one business object",
    responses=declared(NotFound, *READS),
    openapi_extra=documented(Page),
)
async def runs_by_ref(
    access: ReadingSome,
    ref_type: str,
    ref_id: str,
    page: Annotated[Page, from_query(Page)],
) -> RefOverview:
    """Its workflows, and all runs that carry the ref, newest first. A ref that nobody has used
    yet has none of either."""
    services = access.services
    only = access.caller.restriction
    only.ref_type(ref_type)
    ref, types = Ref(ref_type, ref_id), only.types(())
    return await workflows.runs_by_ref(services.database, services.namespace, ref, page, types)
