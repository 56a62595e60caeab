"""Reports of externally driven runs on the wire: their owner says what they do, we keep it beside
what Temporal drives."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, field_validator, model_validator

from tracker.core.status import RunStatus, StepStatus
from tracker.models.wire import Answer, Name, Referring, RunRead, Wire, json_problem

RunReportStatus = Literal[
    RunStatus.ACCEPTED,
    RunStatus.RUNNING,
    RunStatus.COMPLETED,
    RunStatus.FAILED,
    RunStatus.CANCELED,
]
StepReportStatus = Literal[
    StepStatus.SCHEDULED,
    StepStatus.STARTED,
    StepStatus.COMPLETED,
    StepStatus.FAILED,
    StepStatus.CANCELED,
    StepStatus.TIMED_OUT,
]


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("expected no NUL, which Postgres cannot hold")
    return text


def _storable_time(moment: datetime) -> datetime:
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        moment = LATEST
    if not EARLIEST <= moment < LATEST:
        raise ValueError(f"expected a time from {EARLIEST.year} to {LATEST.year - 1}")
    return moment


EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""Between them a time stays one that Python holds, in whatever zone it is read."""
ReportedTime = Annotated[AwareDatetime, AfterValidator(_storable_time)]

Text = Annotated[str, Field(max_length=65_536), AfterValidator(_without_nul)]


class ReportedError(Wire):
    """Why something failed."""

    type: Name = "Error"
    message: Text | None = None
    stack: Text | None = None


class _Values(Wire):
    @field_validator("input", "output", "metadata", check_fields=False)
    @classmethod
    def _storable(cls, value: Any) -> Any:
        if problem := json_problem(value):
            raise ValueError(problem)
        return value


class ReportRun(Referring, _Values):
    """`POST /v1/external/runs`: what a run that Temporal does not drive is doing.

    Name it by `own_id`, its owner's id of it, or by `run_id` once it is known. What is left out is
    not spoken of; times that are left out are those of the report.
    """

    run_id: UUID | None = Field(default=None, description="Ours, from the first report's answer.")
    own_id: Name | None = Field(default=None, description="The owner's: one run for each.")
    workflow_type: Name | None = Field(default=None, description="Needed of a new run.")
    status: RunReportStatus | None = Field(
        default=None, description="`running` reopens a run that has ended; a new one is `accepted`."
    )
    metadata: dict[str, Any] | None = None
    input: Any = Field(default=None, description="Of a new run; it never changes.")
    output: Any = Field(default=None, description="With status `completed`.")
    error: ReportedError | None = Field(default=None, description="With `failed` or `canceled`.")
    started_at: ReportedTime | None = None
    finished_at: ReportedTime | None = None
    sleep_until: ReportedTime | None = Field(
        default=None, description="The run waits until then; null: it no longer does."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.run_id is not None and self.own_id is not None:
            raise ValueError("give run_id or own_id, not both")
        if self.run_id is not None and self.input is not None:
            raise ValueError("input goes with the first report of a run, under own_id or neither")
        return self


class ReportedRun(RunRead):
    """Answer of `POST /v1/external/runs`."""

    created: bool = Field(description="Whether the run was not on record before.")


class ReportStep(_Values):
    """`POST /v1/external/runs/{run_id}/steps`: what one step of such a run is doing.

    A step is named by its index and name. `scheduled` with `next_retry_at`: a try failed and
    another follows.
    """

    name: Name
    index: int = Field(default=0, ge=0, le=1_000_000, description="Its place among the steps.")
    status: StepReportStatus
    attempt: int | None = Field(default=None, ge=1, le=1_000_000, description="Else counted here.")
    max_attempts: int | None = Field(default=None, ge=1, le=1_000_000)
    output: Any = Field(default=None, description="With status `completed`.")
    error: ReportedError | None = None
    started_at: ReportedTime | None = None
    finished_at: ReportedTime | None = None
    next_retry_at: ReportedTime | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.next_retry_at is not None and self.status is not StepStatus.SCHEDULED:
            raise ValueError("next_retry_at goes with status scheduled")
        return self


class ReportedStep(Answer):
    """Answer of `POST /v1/external/runs/{run_id}/steps`."""

    step_id: UUID
    created: bool = Field(description="Whether the step was not on record before.")
