"""Task queues and the workers that poll them, as Temporal tells."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from api.deps import Reading
from api.errors import READS, declared
from api.parameters import documented, from_query
from api.routing import Route
from tracker.errors import TemporalUnavailable
from tracker.models.queues import QueueFilter, Queues, Workers

router = APIRouter(prefix="/v1", tags=["search"], route_class=Route)


@router.get(
    "/queues",
    operation_id="queues",
    summary="Task queues: who polls them, what waits",
    responses=declared(TemporalUnavailable, *READS),
    openapi_extra=documented(QueueFilter),
)
async def queues(
    access: Reading, filters: Annotated[QueueFilter, from_query(QueueFilter)]
) -> Queues:
    """A backlog without pollers is work that nobody will do. At most 100 queues; Temporal's figures
    are estimates, and up to 2 s old."""
    return await access.services.task_queues.queues(filters)


@router.get(
    "/workers",
    operation_id="workers",
    summary="Workers, by the identity that they poll with",
    responses=declared(TemporalUnavailable, *READS),
    openapi_extra=documented(QueueFilter),
)
async def workers(
    access: Reading, filters: Annotated[QueueFilter, from_query(QueueFilter)]
) -> Workers:
    """What polled the queues within the last five minutes, ended workers included."""
    return await access.services.task_queues.workers(filters)
