"""What was done, by whom, and what came of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field

from tracker.models.filters import Page
from tracker.models.wire import Answer, Name


class AuditFilter(Page):
    """Filters of `GET /v1/audit`; all given ones must hold."""

    actor: Name | None = Field(default=None, description="Name of the API key, or whoever acted.")
    action: Name | None = Field(default=None, description="Such as `cancel` or `key.create`.")
    run_id: UUID | None = Field(default=None, description="Our id of the run.")
    outcome: Name | None = Field(default=None, description="`done`, or the code of an error.")
    after: AwareDatetime | None = Field(default=None, description="At this moment or later.")
    before: AwareDatetime | None = Field(default=None, description="Before then.")


class AuditEntry(Answer):
    """One action.

    Attributes:
        actor: Name of the API key, `jwt:` and the subject of a token, or `cli:` and a user's name.
        outcome: `done`, or the code of the error that it ended with.
        details: Never arguments of users.
    """

    id: UUID
    at: datetime
    actor: str
    action: str
    run_id: UUID | None = None
    reason: str | None = None
    outcome: str
    details: dict[str, Any] | None = None


class AuditPage(Answer):
    """A page of entries, newest first."""

    entries: list[AuditEntry]
    next_cursor: str | None = None
