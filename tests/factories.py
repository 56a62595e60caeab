"""Events and identities with sane defaults; a test names only what it is about."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tracker.core.events import (
    AttemptEnded,
    AttemptIdentity,
    AttemptStarted,
    RunClosed,
    RunIdentity,
    RunStarted,
    StepIdentity,
)
from tracker.core.ids import Ref, derived_run_id, new_id
from tracker.core.status import AttemptOutcome, RunStatus, StepKind, StepStatus

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class ARun:
    """One run and what can be said about it."""

    namespace: str = "default"
    workflow_type: str = "OrderFulfilment"
    ref: Ref | None = field(default_factory=lambda: Ref("order", "o-1"))
    started_at: datetime = NOON
    run_key: UUID = field(default_factory=new_id)

    @property
    def identity(self) -> RunIdentity:
        return RunIdentity(
            id=derived_run_id(self.namespace, self.run_key, self.run_key),
            namespace=self.namespace,
            run_key=self.run_key,
            workflow_type=self.workflow_type,
            workflow_id=f"workflow-{self.run_key}",
            task_queue="orders",
            first_run_key=self.run_key,
            started_at=self.started_at,
            ref=self.ref,
        )

    def started(self, **details: Any) -> RunStarted:
        return RunStarted(**({"run": self.identity, "history_length": 3} | details))

    def closed(self, status: RunStatus = RunStatus.COMPLETED, **details: Any) -> RunClosed:
        given = {
            "run": self.identity,
            "history_length": 11,
            "status": status,
            "finished_at": self.started_at + timedelta(seconds=9),
        }
        return RunClosed(**(given | details))

    def step(self, name: str = "charge", key: str = "1") -> StepIdentity:
        return StepIdentity(
            namespace=self.namespace,
            run_key=self.run_key,
            kind=StepKind.ACTIVITY,
            step_key=key,
            name=name,
        )

    def attempt(self, number: int = 1, name: str = "charge", key: str = "1") -> AttemptIdentity:
        at = self.started_at + timedelta(seconds=number)
        return AttemptIdentity(step=self.step(name, key), number=number, started_at=at)

    def attempt_started(self, number: int = 1, **details: Any) -> AttemptStarted:
        given = {"attempt": self.attempt(number), "type": "charge", "scheduled_at": self.started_at}
        return AttemptStarted(**(given | details))

    def attempt_completed(self, number: int = 1, **details: Any) -> AttemptEnded:
        attempt = self.attempt(number)
        given = {
            "attempt": attempt,
            "outcome": AttemptOutcome.COMPLETED,
            "finished_at": attempt.started_at + timedelta(milliseconds=500),
            "closes_step": StepStatus.COMPLETED,
        }
        return AttemptEnded(**(given | details))
