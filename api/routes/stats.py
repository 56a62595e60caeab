"""How the tracker itself is doing."""

from __future__ import annotations

from fastapi import APIRouter

from api.deps import Reading
from api.errors import READS, declared
from api.routing import Route
from tracker.models.stats import Stats
from tracker.store.stats import read_stats

router = APIRouter(prefix="/v1/stats", tags=["health"], route_class=Route)


@router.get(
    "",
    operation_id="stats",
    summary="How far the tables are, and what waits",
    responses=declared(*READS),
)
async def stats(access: Reading) -> Stats:
    """Of this namespace; what workers spilled and dropped, of all of them."""
    return await read_stats(access.services.database, access.services.namespace)
