"""One action on every run of a filter, carried out in the background by `flowtrail worker`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response

from api.deps import Controlling, Reading
from api.errors import READS, declared
from api.parameters import documented, from_query
from api.routing import Route
from tracker.errors import (
    Conflict,
    IdempotencyConflict,
    NotFound,
    TemporalUnavailable,
    TooManyRuns,
)
from tracker.models.control import (
    BulkItemFilter,
    BulkItemPage,
    BulkPage,
    BulkPreview,
    BulkRead,
    StartBulk,
)
from tracker.models.filters import Page
from tracker.models.wire import ControlRun
from tracker.store import bulk

router = APIRouter(prefix="/v1/bulk", tags=["bulk"], route_class=Route)


@router.post(
    "",
    operation_id="start_bulk",
    summary="Cancel, terminate, signal, rerun or reset many runs",
    status_code=202,
    response_model=BulkRead,
    responses={200: {"model": BulkPreview, "description": "Of a dry run: nothing is done."}}
    | declared(TooManyRuns, IdempotencyConflict, TemporalUnavailable, *READS),
)
async def start_bulk(access: Controlling, request: StartBulk) -> Response:
    """Takes the runs that the filter has now, at `rate` runs a second; what became of each is told
    by `/v1/bulk/{bulk_id}/items`. A kill of the worker loses nothing and does nothing twice: each
    rerun and reset makes one run, each signal arrives once. Ask with `dry_run` first."""
    if request.dry_run:
        answer = await access.services.bulks.preview(request)
        return Response(answer.model_dump_json(), media_type="application/json")
    started = await access.services.bulks.start(request, actor=access.caller.name)
    return Response(started.model_dump_json(), 202, media_type="application/json")


@router.get(
    "",
    operation_id="list_bulks",
    summary="Bulk actions, newest first",
    responses=declared(*READS),
    openapi_extra=documented(Page),
)
async def list_bulks(access: Reading, page: Annotated[Page, from_query(Page)]) -> BulkPage:
    """A page of bulk actions, with their counts."""
    services = access.services
    return await bulk.list_bulks(services.database, services.namespace, page)


@router.get(
    "/{bulk_id}",
    operation_id="get_bulk",
    summary="A bulk action and how far it is",
    responses=declared(NotFound, *READS),
)
async def get_bulk(access: Reading, bulk_id: UUID) -> BulkRead:
    """Counts are exact at each moment."""
    return await access.services.bulks.get(bulk_id)


@router.get(
    "/{bulk_id}/items",
    operation_id="bulk_items",
    summary="The runs of a bulk action, and what became of each",
    responses=declared(NotFound, *READS),
    openapi_extra=documented(BulkItemFilter),
)
async def bulk_items(
    access: Reading,
    bulk_id: UUID,
    filters: Annotated[BulkItemFilter, from_query(BulkItemFilter)],
) -> BulkItemPage:
    """A page of them, by run id; `status=failed` shows what went wrong."""
    await access.services.bulks.get(bulk_id)
    return await bulk.list_items(access.services.database, bulk_id, filters)


@router.post(
    "/{bulk_id}/cancel",
    operation_id="cancel_bulk",
    summary="Stop a bulk action",
    responses=declared(NotFound, Conflict, TemporalUnavailable, *READS),
)
async def cancel_bulk(
    access: Controlling, bulk_id: UUID, request: ControlRun | None = None
) -> BulkRead:
    """Runs that it has dealt with stay dealt with; the others are left alone."""
    reason = None if request is None else request.reason
    return await access.services.bulks.cancel(bulk_id, actor=access.caller.name, reason=reason)
