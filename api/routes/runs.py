"""Runs: start them, find them, read them. Controlling them is in `control`."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Header, Query, Response

from api import started
from api.deps import Reading, ReadingSome, Starting
from api.errors import READS, declared
from api.openapi import START_EXAMPLES
from api.parameters import documented, from_query
from api.routing import Route
from api.waiting import wait_for_result
from tracker.errors import NotFound
from tracker.models.filters import RunFilter
from tracker.models.wire import (
    RunDetail,
    RunPage,
    RunResult,
    StartedRun,
    StartRun,
    StepDetail,
    Timeline,
)
from tracker.store import run_detail, run_queries
from tracker.store.timeline import timeline_of

router = APIRouter(prefix="/v1/runs", tags=["runs"], route_class=Route)


@router.post(
    "",
    operation_id="start_workflow",
    summary="Start a workflow by reference",
    status_code=201,
    response_model=StartedRun,
    responses=started.ANSWERS | declared(*started.FAILURES, *READS),
)
async def start_workflow(
    access: Starting,
    start: Annotated[StartRun, Body(openapi_examples=START_EXAMPLES)],
    idempotency_key: Annotated[
        str | None,
        Header(description="As `idempotency_key` in the body.", max_length=255, min_length=1),
    ] = None,
) -> Response:
    """The run is on record, and a query by its ref finds it, before Temporal is called; from then
    on it runs, once, whatever fails. 409 `start_rejected`: Temporal refused it for good; the run
    is on record as `rejected`, and `details` has its id and the reason."""
    key = started.one_key(idempotency_key, start.idempotency_key)
    if key is not None:
        start = start.model_copy(update={"idempotency_key": key})
    access.caller.restriction.start(start)
    result = await access.services.starts.start(start)
    return started.started_answer(result)


@router.get(
    "",
    operation_id="list_runs",
    summary="Runs that pass all filters, newest first",
    responses=declared(*READS),
    openapi_extra=documented(RunFilter),
)
async def list_runs(
    access: ReadingSome, filters: Annotated[RunFilter, from_query(RunFilter)]
) -> RunPage:
    """A page of runs. Pages are stable: runs that come in later never shift them. `next_cursor`
    leads to the next page of the same filters; `limit` may change on the way."""
    services = access.services
    filters = access.caller.restriction.runs(filters)
    return await run_queries.list_runs(services.database, services.namespace, filters)


@router.get(
    "/{run_id}",
    operation_id="get_run",
    summary="A run with its steps, attempts and values",
    responses=declared(NotFound, *READS),
)
async def get_run(access: Reading, run_id: UUID) -> RunDetail:
    """A run by our id or Temporal's run id: at most 1,000 steps, of each the latest 100 attempts,
    5,000 in all; `steps_truncated` and `attempts_truncated` tell where there is more."""
    services = access.services
    return await run_detail.run_detail(services.database, services.namespace, run_id)


@router.get(
    "/{run_id}/steps/{step_id}",
    operation_id="get_step",
    summary="A step with its values and attempts",
    responses=declared(NotFound, *READS),
)
async def get_step(access: Reading, run_id: UUID, step_id: UUID) -> StepDetail:
    """A step, its input and output as far as they were kept, and its latest 5,000 attempts."""
    services = access.services
    return await run_detail.get_step(services.database, services.namespace, run_id, step_id)


@router.get(
    "/{run_id}/timeline",
    operation_id="timeline",
    summary="What happened in a run, oldest first",
    responses=declared(NotFound, *READS),
)
async def timeline(access: Reading, run_id: UUID) -> Timeline:
    """The moments of a run, its steps and their attempts, bounded as the run itself is."""
    services = access.services
    run = await run_detail.run_detail(services.database, services.namespace, run_id)
    return timeline_of(run)


@router.get(
    "/{run_id}/result",
    operation_id="result",
    summary="A run's status, and its output once there is one",
    responses=declared(NotFound, *READS),
)
async def result(
    access: Reading,
    run_id: UUID,
    wait: Annotated[
        float,
        Query(ge=0, le=60, allow_inf_nan=False, description="Seconds to wait for the end."),
    ] = 0,
) -> RunResult:
    """Answers when the run has ended or `wait` is over, whichever comes first; `done` tells."""
    services = access.services
    return await wait_for_result(
        services.database, services.namespace, run_id, wait, services.stopping
    )
