"""Rows that a history gives, for tests to look into."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle

from tracker.core.batch import Batch
from tracker.core.fold import fold
from tracker.core.payloads import PayloadPolicy
from tracker.core.status import StepKind
from tracker.temporal.history import Clear, RefRules, project

FULL = PayloadPolicy().resolved(has_codec=False)
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class Projected:
    """The rows of one run."""

    batch: Batch

    @property
    def run(self) -> dict[str, Any]:
        [row] = self.batch.runs.values()
        return row

    def steps(self, kind: StepKind) -> list[dict[str, Any]]:
        """In the order in which they were asked for."""
        rows = [row for row in self.batch.steps.values() if row["kind"] == kind]
        return sorted(rows, key=lambda row: (row.get("event_id") or 0, row["step_key"]))

    def step(self, kind: StepKind, name: str | None = None) -> dict[str, Any]:
        """The only step of that kind, or of that name among them."""
        [row] = [row for row in self.steps(kind) if name in (None, row["name"])]
        return row

    def attempts(self, step: dict[str, Any]) -> list[dict[str, Any]]:
        rows = [row for row in self.batch.attempts.values() if row["step_id"] == step["id"]]
        return sorted(rows, key=lambda row: row["number"])

    def value(self, payload_id: UUID | None) -> Any:
        """A stored payload's JSON value."""
        if payload_id is None:
            return None
        body = self.batch.payloads[payload_id].body
        return None if body is None else json.loads(body)


async def events_of(handle: WorkflowHandle[Any, Any]) -> Sequence[HistoryEvent]:
    """The history of the handle's run, or of the latest run of its workflow id."""
    return (await handle.fetch_history()).events


async def rows_of(handle: WorkflowHandle[Any, Any], **options: Any) -> Projected:
    """The rows of a run whose history is fetched now."""
    run_key = handle.run_id or handle.result_run_id or (await handle.describe()).run_id
    events = await events_of(handle)
    return rows(events, workflow_id=handle.id, run_key=UUID(run_key), **options)


def rows(
    events: Sequence[HistoryEvent],
    *,
    workflow_id: str,
    run_key: UUID,
    policy: PayloadPolicy = FULL,
    clear: Clear | None = None,
    ref_rules: RefRules | None = None,
) -> Projected:
    """The rows that a history gives."""
    told = project(
        events,
        namespace="test",
        workflow_id=workflow_id,
        run_key=run_key,
        policy=policy,
        projected_at=NOW,
        clear=clear,
        ref_rules=ref_rules,
    )
    return Projected(fold(told))
