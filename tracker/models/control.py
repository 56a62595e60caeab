"""Requests and answers of acting on runs that make other runs, pause them or change what is on
record; those of the simple actions are in `wire`. What a reader gets wrong: a reset and a rerun
both give a *new* run; the old one stays on record as it was.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, field_validator, model_validator

from tracker.core.status import BulkAction, BulkItemStatus, BulkStatus
from tracker.models.filters import Page, RunFilter
from tracker.models.wire import Answer, Name, Reason, RunRead, Wire, json_problem

METADATA_KEYS_MAX = 100
BULK_RUNS_MAX = 100_000
"""Runs that one bulk action takes at most."""


class RerunRun(Wire):
    """Body of `rerun`: without `input` and `args`, those of the run itself."""

    input: Any = Field(default=None, description="A single argument in place of the run's own.")
    args: list[Any] | None = Field(default=None, description="Several, or none: `[]`.")
    idempotency_key: Name | None = None
    reason: Reason | None = None

    @model_validator(mode="after")
    def _consistent(self) -> RerunRun:
        if self.args is not None and "input" in self.model_fields_set:
            raise ValueError("give input (one argument) or args (a list), not both")
        return self

    @property
    def arguments(self) -> list[Any] | None:
        """The argument list that was given; None: the run's own."""
        if self.args is not None:
            return self.args
        return [self.input] if "input" in self.model_fields_set else None


class ResetRun(Wire):
    """Body of `reset`: from where the run is to go on, once more."""

    to: Literal["failed_step", "step", "event"] = Field(
        default="failed_step",
        description="`failed_step`: the step that failed last. `step`: give step_id. `event`: "
        "give event_id, of the history.",
    )
    step_id: UUID | None = None
    event_id: int | None = Field(default=None, ge=1)
    reapply_signals: bool = Field(
        default=True, description="Whether signals that came later reach the new run."
    )
    reapply_updates: bool = Field(
        default=True, description="Whether updates that came later reach the new run."
    )
    dry_run: bool = Field(default=False, description="Only tell what would run again.")
    reason: Reason | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ResetRun:
        if (self.to == "step") != (self.step_id is not None):
            raise ValueError("step_id belongs to to='step', which needs it")
        if (self.to == "event") != (self.event_id is not None):
            raise ValueError("event_id belongs to to='event', which needs it")
        return self


class ResetAnswer(Answer):
    """What a reset does, or would do.

    Attributes:
        new_run_id, new_temporal_run_id: The run that goes on; absent of a dry run.
        event_id: The history event that the new run decides anew (Temporal's "workflow task finish
            event").
        repeats: Names of completed steps that lie behind that point: they run once more.
    """

    run_id: UUID
    new_run_id: UUID | None = None
    new_temporal_run_id: UUID | None = None
    event_id: int
    repeats: list[str] = Field(default_factory=list[str])


class UnpauseStep(Wire):
    """Body of a step's `unpause`."""

    reset_attempts: bool = Field(default=False, description="Count its attempts from 1 again.")
    reason: Reason | None = None


class PatchRun(Wire):
    """Body of `PATCH /v1/runs/{id}`."""

    metadata: dict[Name, Any] = Field(
        description="Keys to set; null takes a key away. Whatever is not named stays.",
        min_length=1,
        max_length=METADATA_KEYS_MAX,
    )
    reason: Reason | None = None

    @field_validator("metadata")
    @classmethod
    def _storable(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        if problem := json_problem(metadata):
            raise ValueError(problem)
        return metadata


class BulkFilter(RunFilter):
    """Which runs a bulk action takes: the filters of `GET /v1/runs`, at least one of them."""

    limit: int = Field(default=500, exclude=True)
    cursor: str | None = Field(default=None, exclude=True)

    @model_validator(mode="after")
    def _says_something(self) -> BulkFilter:
        if not self.model_fields_set - {"limit", "cursor", "order"}:
            raise ValueError("give at least one filter: a bulk action never takes every run")
        if self.model_fields_set & {"limit", "cursor"}:
            raise ValueError("a bulk action takes all runs of its filter: no limit, no cursor")
        return self


class StartBulk(Wire):
    """`POST /v1/bulk`: one action on every run of a filter."""

    action: BulkAction
    filter: BulkFilter
    signal_name: Name | None = Field(default=None, description="Of action `signal`.")
    signal_args: list[Any] = Field(default_factory=list[Any])
    rate: float = Field(default=20, gt=0, le=500, description="Runs a second, at most.")
    max_runs: int = Field(
        default=10_000,
        ge=1,
        le=BULK_RUNS_MAX,
        description="Refuse, before anything is done, a filter that has more.",
    )
    dry_run: bool = Field(default=False, description="Only count, and show the first runs.")
    idempotency_key: Name | None = Field(
        default=None, description="The same key gives the same bulk action, however often."
    )
    reason: Reason | None = None

    @model_validator(mode="after")
    def _consistent(self) -> StartBulk:
        if (self.action is BulkAction.SIGNAL) != (self.signal_name is not None):
            raise ValueError("signal_name belongs to action='signal', which needs it")
        return self


class BulkRead(Answer):
    """A bulk action and how far it is.

    Attributes:
        total: Runs that it takes; absent until all are gathered.
        pending, done, failed: How many of them are where.
    """

    bulk_id: UUID
    action: BulkAction
    filter: dict[str, Any]
    status: BulkStatus
    actor: str
    reason: str | None = None
    rate: float
    total: int | None = None
    pending: int = 0
    done: int = 0
    failed: int = 0
    error: str | None = None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None


class BulkPreview(Answer):
    """Answer of a dry run."""

    count: int = Field(description="Runs that the filter has now, up to `max_runs` + 1.")
    exceeds_max_runs: bool
    runs: list[RunRead] = Field(description="The first of them.")


class BulkPage(Answer):
    """Bulk actions, newest first."""

    bulks: list[BulkRead]
    next_cursor: str | None = None


class BulkItemFilter(Page):
    """Filters of `GET /v1/bulk/{id}/items`."""

    status: BulkItemStatus | None = None


class BulkItemRead(Answer):
    """One run of a bulk action, and what came of it.

    Attributes:
        new_run_id: Of a rerun or reset: the run that it made.
    """

    run_id: UUID
    status: BulkItemStatus
    tries: int
    new_run_id: UUID | None = None
    error_code: str | None = None
    error_message: str | None = None
    finished_at: datetime | None = None


class BulkItemPage(Answer):
    """A page of the runs of a bulk action."""

    items: list[BulkItemRead]
    next_cursor: str | None = None
