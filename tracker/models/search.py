"""Requests and answers of looking across runs: what is failing, what it has in common, how long
things take. What a reader gets wrong: figures over a window are taken of at most so many runs, the
latest ones; `since` and `sampled` tell of which.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from tracker.core.status import StepKind, StepStatus
from tracker.models.filters import Page
from tracker.models.wire import Answer, Name, Wire

ErrorText = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]
WINDOW_MAX = 90 * 86_400.0


class StepFilter(Page):
    """Filters of `GET /v1/steps`: steps that have failed at least once; all given must hold."""

    workflow_type: Name | None = None
    name: Name | None = Field(default=None, description="Of the step.")
    status: list[StepStatus] = Field(
        default_factory=list[StepStatus],
        max_length=10,
        description="Repeatable: any of them. `scheduled` and `started`: is being retried.",
    )
    min_attempts: int | None = Field(default=None, ge=1)
    error_type: Name | None = None
    error_text: ErrorText | None = Field(
        default=None, description='Words of the message; `"…"` a phrase, `-` not, `or`.'
    )
    failure: UUID | None = Field(default=None, description="Fingerprint of a group.")
    failed_after: AwareDatetime | None = Field(default=None, description="At this time or later.")
    failed_before: AwareDatetime | None = Field(default=None, description="Before then.")


class FailedStepRead(Answer):
    """A step that has failed at least once, as it stands now.

    Attributes:
        error_type, error_message: Of the latest failure.
        first_failed_at, failed_at: When it failed first and last.
        failure: Fingerprint of the group that it belongs to.
    """

    step_id: UUID
    run_id: UUID | None = Field(default=None, description="Absent until its run is on record.")
    temporal_run_id: UUID
    workflow_type: str | None = None
    ref_type: str | None = None
    ref_id: str | None = None
    kind: StepKind
    name: str
    status: StepStatus
    attempts: int | None = None
    error_type: str
    error_message: str | None = None
    build_id: str | None = None
    first_failed_at: datetime
    failed_at: datetime
    next_retry_at: datetime | None = None
    failure: UUID


class StepPage(Answer):
    """A page of steps, the latest failure first."""

    steps: list[FailedStepRead]
    next_cursor: str | None = None


class FailureFilter(Wire):
    """Filters of `GET /v1/failures`."""

    window: float = Field(
        default=86_400, gt=0, le=WINDOW_MAX, allow_inf_nan=False, description="Seconds back."
    )
    workflow_type: Name | None = None
    name: Name | None = Field(default=None, description="Of the step.")
    build_id: Name | None = None
    error_text: ErrorText | None = Field(default=None, description="Words of the message.")
    limit: int = Field(default=50, ge=1, le=200)


class FailureGroup(Answer):
    """Steps that failed of the same: error type, step and message without ids and numbers.

    Attributes:
        failure: Its fingerprint; `GET /v1/runs?failure=` and a bulk filter take it.
        message: Of its latest step.
        steps, runs: How many of each.
        failed, retrying, recovered: Of the steps: ended so, still tried, went well in the end.
    """

    failure: UUID
    error_type: str
    message: str | None = None
    name: str
    kind: StepKind
    workflow_types: list[str]
    steps: int
    runs: int
    failed: int
    retrying: int
    recovered: int
    first_failed_at: datetime
    failed_at: datetime
    build_ids: list[str]


class Failures(Answer):
    """`GET /v1/failures`.

    Attributes:
        sampled: Steps that were looked at, the latest ones of the window.
        since: The earliest of them; the start of the window if all of them were looked at.
        truncated: Whether there were more.
    """

    groups: list[FailureGroup]
    sampled: int
    since: datetime
    truncated: bool


class StatsFilter(Wire):
    """Filters of `GET /v1/stats/workflows`."""

    window: float = Field(
        default=86_400, gt=0, le=WINDOW_MAX, allow_inf_nan=False, description="Seconds back."
    )
    workflow_type: Name | None = None


class Spread(Answer):
    """How long something took, in seconds."""

    p50: float | None = None
    p95: float | None = None


class WorkflowTypeStats(Answer):
    """Runs of one type that ended in the window.

    Attributes:
        failure_rate: Share of failed and timed out ones, 0 to 1.
    """

    workflow_type: str
    runs: int
    failed: int
    failure_rate: float
    duration: Spread


class StepStats(Answer):
    """Steps of those runs, by name.

    Attributes:
        queue: From being scheduled to the first start.
        execution: Inside attempts, all of them together.
        backoff: Between attempts.
    """

    workflow_type: str
    name: str
    kind: StepKind
    steps: int
    failed: int
    failure_rate: float
    attempts: float = Field(description="On average.")
    duration: Spread
    queue: Spread
    execution: Spread
    backoff: Spread


class WorkflowStats(Answer):
    """`GET /v1/stats/workflows`; `sampled` and `since` as in `Failures`, of ended runs."""

    workflow_types: list[WorkflowTypeStats]
    steps: list[StepStats]
    sampled: int
    since: datetime
    truncated: bool


class GraphNode(Answer):
    """A step of a workflow type, by name."""

    name: str
    kind: StepKind
    steps: int
    failed: int
    duration: Spread


class GraphEdge(Answer):
    """One step after another; absent ends stand for the run's start and end.

    Attributes:
        wait: Seconds from the end of the one to the start of the other.
        failure_rate: Share of the transitions after which the second step failed.
    """

    source: str | None = None
    target: str | None = None
    transitions: int
    failure_rate: float
    wait: Spread


class WorkflowGraph(Answer):
    """`GET /v1/workflow-types/{workflow_type}/graph`: what its latest runs did, as a graph."""

    workflow_type: str
    runs: int
    nodes: list[GraphNode]
    edges: list[GraphEdge]
