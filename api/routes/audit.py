"""What was done by whom."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from api.deps import Administering
from api.errors import READS, declared
from api.parameters import documented, from_query
from api.routing import Route
from tracker.models.audit import AuditFilter, AuditPage
from tracker.store.audit import list_actions

router = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=Route)


@router.get(
    "",
    operation_id="audit",
    summary="Who did what to which run, and what came of it",
    responses=declared(*READS),
    openapi_extra=documented(AuditFilter),
)
async def audit(
    access: Administering, filters: Annotated[AuditFilter, from_query(AuditFilter)]
) -> AuditPage:
    """Every action on a run, refused ones too, bulk actions, purges, erasures and changes of keys,
    newest first. Starts are not in it: a start is a run."""
    services = access.services
    return await list_actions(services.database, services.namespace, filters)
