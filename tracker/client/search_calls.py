"""The calls that look across runs; see `calls`."""

from __future__ import annotations

from typing import Any

from tracker.client.calls import Call, checked, get, given, listed, params, segment
from tracker.client.options import Duration, FailureFilters, StepFilters, seconds
from tracker.models.search import (
    FailureFilter,
    Failures,
    StatsFilter,
    StepFilter,
    StepPage,
    WorkflowGraph,
    WorkflowStats,
)


def failed_steps(filters: StepFilters) -> Call[StepPage]:
    """`GET /v1/steps`.

    Raises:
        InvalidRequest: If a filter is unknown, out of range, or a time has no zone.
    """
    fields = listed(given(filters), "status")
    return get("/v1/steps", StepPage, params(checked(StepFilter, **fields)))


def failures(filters: FailureFilters) -> Call[Failures]:
    """`GET /v1/failures`.

    Raises:
        InvalidRequest: If a filter is unknown or out of range.
    """
    fields = _with_window(given(filters))
    return get("/v1/failures", Failures, params(checked(FailureFilter, **fields)))


def workflow_stats(window: Duration | None, workflow_type: str | None) -> Call[WorkflowStats]:
    """`GET /v1/stats/workflows`."""
    fields = _with_window(given({"window": window, "workflow_type": workflow_type}))
    return get("/v1/stats/workflows", WorkflowStats, params(checked(StatsFilter, **fields)))


def workflow_graph(workflow_type: str, window: Duration | None) -> Call[WorkflowGraph]:
    """`GET /v1/workflow-types/{workflow_type}/graph`."""
    query = () if window is None else (("window", str(seconds(window))),)
    return get(f"/v1/workflow-types/{segment(workflow_type)}/graph", WorkflowGraph, query)


def _with_window(fields: dict[str, Any]) -> dict[str, Any]:
    if "window" in fields:
        fields["window"] = seconds(fields["window"])
    return fields
