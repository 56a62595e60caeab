"""Is the process up, can it serve, and how is it doing. The first two ask for no key: load
balancers and orchestrators have none."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response

from api.deps import PublicServices, Reading, Services
from api.errors import declared, error_response
from api.routing import Route
from tracker.errors import (
    DatabaseUnavailable,
    NotAllowed,
    NotAuthenticated,
    RateLimited,
    SchemaMismatch,
    TrackerError,
)
from tracker.models.wire import Health
from tracker.store.schema import check_schema
from tracker.store.stats import read_stats

router = APIRouter(tags=["health"], route_class=Route)

DATABASE_WITHIN = 2.0
TEMPORAL_WITHIN = 1.0
SCRAPE_WITHIN = 1.0


@router.get("/healthz", operation_id="health", summary="Whether the process is up")
async def health() -> Health:
    """Asks nobody else."""
    return Health(status="ok")


@router.get(
    "/readyz",
    operation_id="ready",
    summary="Whether requests can be served",
    response_model=Health,
    responses=declared(DatabaseUnavailable),
)
async def ready(services: PublicServices) -> Any:
    """503 without the database or with other migrations than this version needs. Without Temporal
    it is `degraded`: reading goes on, and starts are accepted and started later."""
    try:
        async with asyncio.timeout(DATABASE_WITHIN), services.database.connection() as connection:
            await check_schema(connection, services.database.options)
    except (TrackerError, TimeoutError) as error:
        return _unready(error)
    reachable = await _temporal_reachable(services)
    return Health(
        status="ok" if reachable else "degraded",
        temporal="ok" if reachable else "unreachable",
        database="ok",
    )


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}}
    | declared(NotAuthenticated, NotAllowed, RateLimited),
)
async def metrics(access: Reading) -> Response:
    """In Prometheus' text format. Without the database, the state of the tables is NaN."""
    services = access.services
    try:
        async with asyncio.timeout(SCRAPE_WITHIN):
            stats = await read_stats(services.database, services.namespace)
    except (TrackerError, TimeoutError):
        stats = None
    services.metrics.show(stats)
    return Response(
        services.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


def _unready(error: TrackerError | TimeoutError) -> Response:
    if isinstance(error, SchemaMismatch):
        return error_response(503, error.code, error.message, "fatal", error.details)
    message = "Postgres cannot be reached or did not answer in time"
    return error_response(
        503, DatabaseUnavailable.code, message, "transient", headers={"Retry-After": "1"}
    )


async def _temporal_reachable(services: Services) -> bool:
    try:
        async with asyncio.timeout(TEMPORAL_WITHIN):
            return await services.temporal.service_client.check_health()
    except Exception:  # The SDK raises RPCError and RuntimeError alike; either means "away".
        return False
