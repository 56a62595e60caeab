"""Which runs or workflows a list shows, and where it goes on; pydantic only, as `wire`."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from tracker.core.status import RunStatus
from tracker.models.wire import Label, Name, RefId, RefType, Wire


class Page(Wire):
    """Where a list goes on: an opaque cursor of the answer before, and how many."""

    limit: int = Field(default=50, ge=1, le=500)
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before.")


class RunFilter(Page):
    """Filters of `GET /v1/runs`; all given ones must hold.

    Attributes:
        metadata: Key → accepted values (OR within a key, AND across keys); scalars as text.
    """

    ref_type: RefType | None = Field(default=None, description="Refs include further links.")
    ref_id: RefId | None = None
    workflow_type: list[Name] = Field(
        default_factory=list[str], max_length=20, description="Repeatable: any of them."
    )
    status: list[RunStatus] = Field(
        default_factory=list[RunStatus], max_length=20, description="Repeatable: any of them."
    )
    metadata: dict[Label, Annotated[list[Label], Field(min_length=1, max_length=50)]] = Field(
        default_factory=dict[str, list[str]], max_length=10
    )
    workflow_id: Name | None = None
    task_queue: Name | None = None
    started_after: AwareDatetime | None = Field(
        default=None, description="At this moment or later."
    )
    started_before: AwareDatetime | None = Field(default=None, description="Before then.")
    finished_after: AwareDatetime | None = Field(
        default=None, description="At this moment or later."
    )
    finished_before: AwareDatetime | None = Field(default=None, description="Before then.")
    build_id: Name | None = Field(default=None, description="Build of the worker that ran it last.")
    parent: UUID | None = Field(default=None, description="Children of this run, by either id.")
    roots_only: bool = Field(default=False, description="Only runs that no other run started.")
    rerun_of: UUID | None = Field(default=None, description="Runs that repeat this one.")
    failure: UUID | None = Field(
        default=None, description="Runs of a group of `GET /v1/failures`, by its fingerprint."
    )
    failed_step: Name | None = Field(
        default=None, description="Runs in which a step of this name has ended as failed."
    )
    retrying: bool | None = Field(
        default=None, description="True: open runs of which a step is tried again and again."
    )
    waiting_on: Name | None = Field(
        default=None,
        description="Open runs that wait for this kind of thing, as `waiting_on` of a run tells.",
        examples=["timer"],
    )
    min_duration: float | None = Field(
        default=None,
        ge=0,
        le=315_360_000,
        allow_inf_nan=False,
        description="Seconds; ended runs that took longer.",
    )
    max_duration: float | None = Field(
        default=None,
        ge=0,
        le=315_360_000,
        allow_inf_nan=False,
        description="Seconds; ended runs that took less.",
    )
    order: Literal["newest", "oldest"] = "newest"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.retrying is False:
            raise ValueError("retrying can only be true; leave it out otherwise")
        if self.ref_id is not None and self.ref_type is None:
            raise ValueError("ref_id needs ref_type beside it")
        return self


class WorkflowFilter(Page):
    """Filters of `GET /v1/workflows`; all given ones must hold. Newest first."""

    workflow_type: list[Name] = Field(
        default_factory=list[str], max_length=20, description="Repeatable: any of them."
    )
    ref_type: RefType | None = None
    ref_id: RefId | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.ref_type is None) != (self.ref_id is None):
            raise ValueError("ref_type and ref_id belong together: give both or neither")
        return self
