"""What goes over the wire: request bodies, answers and the read models inside them.

One definition for API, SDK and store; pydantic only, so that the SDK installs without a database
driver. Times are aware UTC; durations in requests are seconds. `run_id` is always our public id,
`temporal_run_id` Temporal's.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tracker.core.ids import REF_ID_MAX, REF_TYPE_MAX, Ref
from tracker.core.jsonb import fits_jsonb
from tracker.core.status import AttemptOutcome, Engine, RunStatus, StepKind, StepStatus
from tracker.errors import InvalidRequest

RefType = Annotated[str, Field(min_length=1, max_length=REF_TYPE_MAX, pattern=r"^[^/\x00-\x1f]+$")]
RefId = Annotated[str, Field(min_length=1, max_length=REF_ID_MAX, pattern=r"^[^\x00-\x1f]+$")]
Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]+$")]
"""A name or id of Temporal's."""
Label = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
"""A metadata key, or a scalar value as text, that can be filtered by."""
Seconds = Annotated[float, Field(gt=0, le=315_360_000, allow_inf_nan=False)]
Reason = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$")]
"""Why somebody acts, for the audit."""


class Wire(BaseModel):
    """Base of everything on the wire: unknown fields of a request are refused by name."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    """Base of answers: a newer server may add fields, so a client ignores unknown ones."""

    model_config = ConfigDict(extra="ignore", from_attributes=True)


class Priority(Wire):
    """Temporal's priority of a run."""

    priority_key: int | None = Field(default=None, ge=1, le=5, description="1 is the highest.")
    fairness_key: str | None = Field(default=None, max_length=64)
    fairness_weight: float | None = Field(default=None, gt=0, le=1000)


class Referring(Wire):
    """Base of requests that may carry a ref."""

    ref_type: RefType | None = Field(default=None, examples=["campaign"])
    ref_id: RefId | None = Field(default=None, examples=["campaign-123"])

    @model_validator(mode="after")
    def _whole_ref(self) -> Self:
        if (self.ref_type is None) != (self.ref_id is None):
            raise ValueError("ref_type and ref_id belong together: give both or neither")
        return self

    @property
    def ref(self) -> Ref | None:
        """The ref, if one was given."""
        if self.ref_type is None or self.ref_id is None:
            return None
        return Ref(self.ref_type, self.ref_id)


class StartRun(Referring):
    """`POST /v1/runs`: start a workflow by reference.

    Give `input` (one argument) or `args` (a list of them), or neither.
    """

    workflow_type: Name = Field(examples=["EmailCampaign"])
    input: Any = Field(default=None, description="The workflow's single argument.")
    args: list[Any] | None = Field(default=None, description="Several arguments, in order.")
    metadata: dict[str, Any] | None = Field(default=None, examples=[{"department": "marketing"}])
    task_queue: Name | None = None
    workflow_id: Name | None = Field(default=None, description="Default: `{type}/{run id}`.")
    idempotency_key: Name | None = None
    id_reuse_policy: Literal[
        "allow_duplicate", "allow_duplicate_failed_only", "reject_duplicate"
    ] = "allow_duplicate"
    id_conflict_policy: Literal["fail", "use_existing", "terminate_existing"] = "fail"
    start_delay: Seconds | None = None
    execution_timeout: Seconds | None = None
    run_timeout: Seconds | None = None
    priority: Priority | None = None

    @field_validator("metadata")
    @classmethod
    def _storable(cls, metadata: dict[str, Any] | None) -> dict[str, Any] | None:
        if problem := json_problem(metadata):
            raise ValueError(problem)
        return metadata

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if self.args is not None and self.input is not None:
            raise ValueError("give input (one argument) or args (a list), not both")
        return self

    @property
    def arguments(self) -> list[Any]:
        """The workflow's argument list."""
        if self.args is not None:
            return self.args
        return [self.input] if "input" in self.model_fields_set else []


class ErrorInfo(Answer):
    """Why a run, step or attempt failed."""

    type: str
    message: str | None = None
    stack: str | None = None


class RunRead(Answer):
    """A run as lists show it."""

    run_id: UUID
    namespace: str
    engine: Engine
    workflow_type: str
    workflow_id: str
    temporal_run_id: UUID | None = None
    task_queue: str | None = None
    ref_type: str | None = None
    ref_id: str | None = None
    status: RunStatus
    ordered_at: datetime
    accepted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    metadata: dict[str, Any] | None = None
    error: ErrorInfo | None = None
    attempt: int | None = None
    parent_temporal_run_id: UUID | None = Field(
        default=None, description="Temporal run id of the parent."
    )
    parent_workflow_id: str | None = None
    first_temporal_run_id: UUID | None = Field(
        default=None, description="Temporal run id of the first run of the chain."
    )
    continued_from: UUID | None = None
    continued_to: UUID | None = None
    duplicate_of: UUID | None = None
    rerun_of: UUID | None = Field(default=None, description="Our id of the run that it repeats.")
    from_history: bool = Field(
        default=False, description="Whether Temporal's history has confirmed the status."
    )


class StartedRun(RunRead):
    """Answer of `POST /v1/runs`."""

    created: bool = Field(
        default=True, description="False: the idempotency key or workflow id named this run."
    )


class AttemptRead(Answer):
    """One try of a step."""

    attempt_id: UUID
    number: int
    outcome: AttemptOutcome
    scheduled_at: datetime | None = None
    started_at: datetime
    finished_at: datetime | None = None
    next_retry_at: datetime | None = None
    error: ErrorInfo | None = None
    task_queue: str | None = None
    worker_identity: str | None = None
    build_id: str | None = None
    trace_id: str | None = None
    annotations: dict[str, Any] | None = None


class PayloadRead(Answer):
    """A stored value, or what is kept of it.

    `value` is there when the value is JSON and was kept; `base64` when its bytes were kept. Of an
    encrypted value, neither where the API has no keys.
    """

    treatment: str
    encoding: str
    size: int
    sha256: str
    value: Any = None
    base64: str | None = None
    key_id: str | None = Field(default=None, description="Key with which it is encrypted.")


class StepState(Answer):
    """One unit of work in a run, as it stands."""

    step_id: UUID
    run_id: UUID | None = None
    kind: StepKind
    name: str
    type: str | None = None
    status: StepStatus
    attempts_count: int = 0
    max_attempts: int | None = Field(default=None, description="Absent: unlimited.")
    task_queue: str | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    next_retry_at: datetime | None = None
    error: ErrorInfo | None = None
    progress: Any = None
    progress_at: datetime | None = None
    detail: dict[str, Any] | None = None
    from_history: bool = False


class StepRead(StepState):
    """One unit of work in a run, with its attempts."""

    attempts: list[AttemptRead] = Field(
        default_factory=list[AttemptRead], description="The latest ones, oldest first."
    )
    attempts_truncated: bool = Field(
        default=False,
        description="Whether there are older ones; a run shows 100 per step, a step 5,000.",
    )


class StepDetail(StepRead):
    """`GET /v1/runs/{id}/steps/{step_id}`: a step with its values."""

    input: PayloadRead | None = None
    output: PayloadRead | None = None


class TaskFailure(Answer):
    """The latest workflow task failure: the run is open, its code raised or mismatched history."""

    at: datetime
    type: str
    message: str | None = None


class OutboxEntryRead(Answer):
    """Something accepted for a run that Temporal has not confirmed."""

    id: UUID
    kind: str = Field(description="`start` or `signal`.", examples=["start"])
    created_at: datetime
    due_at: datetime | None = Field(
        default=None, description="When it is tried next; absent of a dead one."
    )
    tries: int
    last_error: str | None = Field(
        default=None, description="Why the last try decided nothing, or why it is dead."
    )
    dead_at: datetime | None = Field(
        default=None, description="Given up then: nothing tries it until somebody revives it."
    )


class RunDetail(RunRead):
    """`GET /v1/runs/{id}`: a run with its steps, attempts and values."""

    input: PayloadRead | None = Field(default=None, description="JSON array of the arguments.")
    output: PayloadRead | None = None
    refs: list[RefRead] = Field(default_factory=lambda: [])
    task_failure: TaskFailure | None = None
    worker_identity: str | None = None
    build_id: str | None = None
    steps: list[StepRead] = Field(default_factory=list[StepRead])
    steps_truncated: bool = Field(
        default=False, description="Whether there are more steps than the answer holds."
    )
    attempts_truncated: bool = Field(
        default=False, description="Whether that is so of the attempts of some step."
    )
    outbox: list[OutboxEntryRead] = Field(
        default_factory=list[OutboxEntryRead],
        description="What is accepted and not confirmed by Temporal: its start, signals; 100 at "
        "most.",
    )
    paused_at: datetime | None = None
    waiting_on: list[dict[str, Any]] | None = Field(
        default=None,
        description="What an open run waits for, as the reconciler last saw it; the kinds are in "
        "docs/consistency.md.",
        examples=[[{"kind": "timer", "step": "grace", "until": "2026-03-01T12:00:00+00:00"}]],
    )
    waiting_on_at: datetime | None = Field(default=None, description="When it saw that first.")
    unverifiable_at: datetime | None = Field(
        default=None, description="When its history was found gone before it confirmed the close."
    )
    erased_at: datetime | None = Field(default=None, description="Values and texts were erased.")
    payloads_purged_at: datetime | None = Field(default=None, description="Values were purged.")


class RefRead(Answer):
    """A ref of a run."""

    ref_type: str
    ref_id: str
    primary: bool = False


class RunPage(Answer):
    """A page of runs; `next_cursor` is absent on the last."""

    runs: list[RunRead]
    next_cursor: str | None = None


class TimelineEntry(Answer):
    """One moment of a run."""

    at: datetime
    event: str = Field(examples=["step.started", "attempt.failed"])
    step_id: UUID | None = None
    step_name: str | None = None
    attempt: int | None = None
    message: str | None = None
    next_retry_at: datetime | None = None


class Timeline(Answer):
    """`GET /v1/runs/{id}/timeline`: what happened, oldest first."""

    run_id: UUID
    entries: list[TimelineEntry]
    truncated: bool = False


class RunResult(Answer):
    """`GET /v1/runs/{id}/result`: status, and the output once there is one."""

    run_id: UUID
    status: RunStatus
    done: bool
    output: Any = None
    output_available: bool = Field(
        default=False, description="False where the payload policy or a codec keeps it away."
    )
    error: ErrorInfo | None = None
    continued_to: UUID | None = None


class WorkflowRead(Answer):
    """One workflow type for one ref, over all its runs."""

    workflow_type: str
    ref_type: str | None = None
    ref_id: str | None = None
    metadata: dict[str, Any] | None = None
    created_at: datetime
    runs_count: int
    latest_run_id: UUID
    latest_status: RunStatus
    latest_ordered_at: datetime
    first_input: PayloadRead | None = None
    latest_output: PayloadRead | None = None


class WorkflowPage(Answer):
    """A page of workflows."""

    workflows: list[WorkflowRead]
    next_cursor: str | None = None


class RefOverview(Answer):
    """`GET /v1/refs/{ref_type}/{ref_id}`: everything of one business object."""

    ref_type: str
    ref_id: str
    workflows: list[WorkflowRead]
    runs: list[RunRead]
    next_cursor: str | None = None


class WorkflowTypeRead(Answer):
    """A workflow type that workers announced, or that was only seen in runs."""

    name: str
    aliases: list[str] = Field(default_factory=list[str])
    task_queue: str | None = None
    input_schema: dict[str, Any] | None = None
    registered_at: datetime | None = None
    first_seen_at: datetime


class WorkflowTypes(Answer):
    """`GET /v1/workflow-types`."""

    workflow_types: list[WorkflowTypeRead]


class Health(Answer):
    """`GET /healthz` and `/readyz`; the parts are told by the latter alone."""

    status: Literal["ok", "degraded"]
    database: Literal["ok"] | None = None
    temporal: Literal["ok", "unreachable"] | None = None


class ControlRun(Wire):
    """Body of `cancel` and `terminate`."""

    reason: Reason | None = None


class SignalRun(Wire):
    """Body of `signal`."""

    name: Name
    args: list[Any] = Field(default_factory=list[Any])
    reason: Reason | None = None


class QueryRun(Wire):
    """Body of `query`."""

    name: Name
    args: list[Any] = Field(default_factory=list[Any])


class UpdateRun(Wire):
    """Body of `update`: waits for the update's result, at most `wait` seconds."""

    name: Name
    args: list[Any] = Field(default_factory=list[Any])
    update_id: Name | None = None
    wait: float = Field(default=30, gt=0, le=60)
    reason: Reason | None = None


class ControlAnswer(Answer):
    """Answer of a control action.

    `canceled_before_start` tells that Temporal was never called for this run.
    """

    run_id: UUID
    action: str
    accepted: bool = True
    canceled_before_start: bool = False


class CallAnswer(Answer):
    """Answer of `query` and `update`.

    An update that has not finished within `wait` answers `done` false; ask again by `update_id`.
    """

    run_id: UUID
    done: bool = True
    result: Any = None
    update_id: str | None = None


class ErrorBody(Answer):
    """Every error, everywhere."""

    error: str = Field(description="Stable code, e.g. `not_found`.")
    message: str
    error_class: Literal["invalid", "transient", "fatal"] = Field(alias="class")
    details: dict[str, Any] = Field(default_factory=dict[str, Any])


def json_problem(value: Any) -> str | None:
    """Why Postgres cannot hold a value as jsonb; None if it can."""
    try:
        encoded = json.dumps(value, allow_nan=False).encode()
    except (ValueError, RecursionError):
        encoded = b""
    if fits_jsonb(encoded):
        return None
    return "expected JSON that Postgres can hold: no NUL, NaN or lone surrogates"


def parse_ref(ref: str | Ref | tuple[str, str]) -> Ref:
    """Accept a ref as `Ref`, `"type/id"` or a pair."""
    if isinstance(ref, Ref):
        return ref
    if isinstance(ref, str):
        return Ref.parse(ref)
    try:
        return Ref(*ref)
    except TypeError:
        raise InvalidRequest(f"expected a ref as Ref, 'type/id' or a pair, got {ref!r}") from None


RunDetail.model_rebuild()
