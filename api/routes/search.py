"""Looking across runs: what is failing, of what, how long things take, in which order."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from api.deps import Reading
from api.errors import READS, declared
from api.parameters import documented, from_query
from api.routing import Route
from tracker.models.search import (
    WINDOW_MAX,
    FailureFilter,
    Failures,
    StatsFilter,
    StepFilter,
    StepPage,
    WorkflowGraph,
    WorkflowStats,
)
from tracker.store import search, workflow_stats

router = APIRouter(prefix="/v1", tags=["search"], route_class=Route)


@router.get(
    "/steps",
    operation_id="failed_steps",
    summary="Steps that have failed, across runs",
    responses=declared(*READS),
    openapi_extra=documented(StepFilter),
)
async def failed_steps(
    access: Reading, filters: Annotated[StepFilter, from_query(StepFilter)]
) -> StepPage:
    """Steps of which at least one attempt failed, the latest failure first. What is failing now:
    `status=scheduled&status=started`; what has failed for good: `status=failed`."""
    services = access.services
    return await search.failed_steps(services.database, services.namespace, filters)


@router.get(
    "/failures",
    operation_id="failures",
    summary="What steps fail of, grouped",
    responses=declared(*READS),
    openapi_extra=documented(FailureFilter),
)
async def failures(
    access: Reading, filters: Annotated[FailureFilter, from_query(FailureFilter)]
) -> Failures:
    """Steps with the same error type, name and message, ids and numbers aside, are one group. Its
    `failure` finds the steps, the runs, and is a filter of bulk actions. At most the latest 10,000
    steps of the window are looked at; `truncated` tells when there were more."""
    services = access.services
    return await search.failures(services.database, services.namespace, filters)


@router.get(
    "/stats/workflows",
    operation_id="workflow_stats",
    summary="Volume, failure rate and times of workflow types and steps",
    responses=declared(*READS),
    openapi_extra=documented(StatsFilter),
)
async def get_workflow_stats(
    access: Reading, filters: Annotated[StatsFilter, from_query(StatsFilter)]
) -> WorkflowStats:
    """Of runs that ended in the window: at most the latest 2,000, and the steps of the latest 500.
    The time of a step is told apart: in the queue, in attempts, between them."""
    services = access.services
    return await workflow_stats.workflow_stats(services.database, services.namespace, filters)


@router.get(
    "/workflow-types/{workflow_type}/graph",
    operation_id="workflow_graph",
    summary="In which order the steps of a type follow each other",
    responses=declared(*READS),
)
async def workflow_graph(
    access: Reading,
    workflow_type: Annotated[str, Path(max_length=255)],
    window: Annotated[
        float,
        Query(gt=0, le=WINDOW_MAX, allow_inf_nan=False, description="Seconds back."),
    ] = 7 * 86_400,
) -> WorkflowGraph:
    """Mined from its latest 500 runs that ended in the window. An edge without source begins at the
    run's start, one without target ends at its end."""
    services = access.services
    return await workflow_stats.workflow_graph(
        services.database, services.namespace, workflow_type, window
    )
