"""Tracker events: every fact that can be recorded, frozen, from whichever source.

Live interceptors and the projection of Temporal's history build the same classes, so a fact seen
by both lands in the same row. An event is never an instruction: `core.fold` decides what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tracker.core.ids import Ref, attempt_id, ordinal_key, started_key, step_id
from tracker.core.payloads import StoredPayload
from tracker.core.status import AttemptOutcome, RunStatus, StepKind, StepStatus, micros


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """What never changes about a run; every run event carries it, so that any of them can be the
    first to arrive.

    Attributes:
        id: Our public id.
        run_key: Temporal's run id.
        first_run_key: Run id of the first run of its chain.
        started_at: Temporal's time of the start event.
        ref: Primary ref as the memo tells it.
        rule_ref: Ref that a rule derives, where the memo has none.
        parent_run_key, parent_workflow_id: The run that started it as a child.
        root_run_key: The topmost run of the tree.
        continued_from: Run id of the run before it in its chain.
        attempt: Workflow-level attempt, from 1.
    """

    id: UUID
    namespace: str
    run_key: UUID
    workflow_type: str
    workflow_id: str
    task_queue: str
    first_run_key: UUID
    started_at: datetime
    ref: Ref | None = None
    rule_ref: Ref | None = None
    parent_run_key: UUID | None = None
    parent_workflow_id: str | None = None
    root_run_key: UUID | None = None
    continued_from: UUID | None = None
    attempt: int = 1
    cron_schedule: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something failed, as far as the policy lets it be told.

    Attributes:
        type: Error type name, e.g. `ValueError`, or `TimeoutError/START_TO_CLOSE`.
        message: None where the payload policy forbids clear text.
        stack: Stack trace, likewise.
        non_retryable: Whether the raiser ruled out another try.
    """

    type: str
    message: str | None = None
    stack: str | None = None
    non_retryable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Base of facts about a run.

    Attributes:
        history_length: Events in the run's history when the fact was seen.
        from_history: Whether history is the source.
    """

    run: RunIdentity
    history_length: int
    from_history: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(RunEvent):
    """`run.started`: Temporal runs it."""

    metadata: Mapping[str, Any] | None = None
    input: StoredPayload | None = None
    worker_identity: str | None = None
    build_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgressed(RunEvent):
    """`run.progressed`: it was seen open at this history length; undoes a live close that the
    server refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunClosed(RunEvent):
    """`run.completed`, `run.failed`, …: live it is a claim, from history the verdict."""

    status: RunStatus
    finished_at: datetime
    output: StoredPayload | None = None
    error: Failure | None = None
    continued_to: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTaskFailed(RunEvent):
    """`run.task_failed`: a workflow task failed; Temporal retries it, the run stays open."""

    failed_at: datetime
    error: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class RunMetadataSet(RunEvent):
    """`run.metadata_set`: the whole metadata after a change.

    Attributes:
        ordinal: Which change of this workflow instance it is: one task may make several.
    """

    metadata: Mapping[str, Any]
    ordinal: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRefAdded(RunEvent):
    """`run.ref_added`: a further link, or (`primary`) the ref of a run that had none."""

    ref: Ref
    primary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProjected(RunEvent):
    """`run.projected`: history up to this length is in the tables."""

    projected_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalRun:
    """What never changes about an externally driven run.

    Attributes:
        id: Our id, which is its run key too.
        own_id: Its owner's id of it, in the place of a workflow id.
    """

    id: UUID
    namespace: str
    workflow_type: str
    own_id: str
    ref: Ref | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalRunReported:
    """`run.reported`: the owner of an externally driven run says how it is.

    Attributes:
        position: Of the report among those of this run.
        at: When it came, by the database's clock.
        states: Whether it says anything of the status; else that stays as it was.
    """

    run: ExternalRun
    position: int
    at: datetime
    status: RunStatus
    states: bool = True
    started_at: datetime | None = None
    finished_at: datetime | None = None
    metadata: Mapping[str, Any] | None = None
    input: StoredPayload | None = None
    output: StoredPayload | None = None
    error: Failure | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepIdentity:
    """What names a step. `step_key` comes from the key functions of `core.ids`."""

    namespace: str
    run_key: UUID
    kind: StepKind
    step_key: str
    name: str

    @property
    def id(self) -> UUID:
        """Deterministic id of the step."""
        return step_id(self.namespace, self.run_key, self.kind, self.step_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent:
    """Base of facts about a step."""

    step: StepIdentity
    from_history: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepScheduled(StepEvent):
    """`step.scheduled`: asked for by the workflow.

    Attributes:
        type: Activity type, child workflow type, signal name, ….
        max_attempts: None or 0: unlimited.
        detail: Facts of its kind: `fires_at` of a timer, `workflow_id` of a child, ….
        event_id: Of the history event that asked for it.
    """

    type: str
    scheduled_at: datetime
    task_queue: str | None = None
    max_attempts: int | None = None
    input: StoredPayload | None = None
    detail: Mapping[str, Any] | None = None
    event_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted(StepEvent):
    """`step.started` of a step without attempts: a child began, an update was accepted."""

    type: str
    started_at: datetime
    scheduled_at: datetime | None = None
    input: StoredPayload | None = None
    detail: Mapping[str, Any] | None = None
    event_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepClosed(StepEvent):
    """`step.completed`, `step.failed`, … where no attempt speaks for the step.

    Attributes:
        position: Version position of the attempt that it ends (`core.status.step_version`).
        attempts: Tries it took, where the source knows.
    """

    status: StepStatus
    finished_at: datetime
    position: int = 0
    output: StoredPayload | None = None
    error: Failure | None = None
    attempts: int | None = None
    type: str | None = None
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgressed(StepEvent):
    """`step.progressed`: the latest heartbeat."""

    at: datetime
    progress: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptIdentity:
    """One try of a step.

    Attributes:
        number: As Temporal counts, from 1; an attribute, since a reset restarts it.
        started_at: Server time of its start.
    """

    step: StepIdentity
    number: int
    started_at: datetime

    @property
    def id(self) -> UUID:
        """Deterministic id of the attempt."""
        return attempt_id(self.step.id, self.key)

    @property
    def position(self) -> int:
        """Version position of what it says about its step."""
        return self.number if self._is_local else micros(self.started_at)

    @property
    def key(self) -> str:
        """What tells it from the other attempts of its step."""
        return ordinal_key(self.number) if self._is_local else started_key(self.started_at)

    @property
    def _is_local(self) -> bool:
        return self.step.kind is StepKind.LOCAL_ACTIVITY


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """`attempt.started`: a worker took the task."""

    attempt: AttemptIdentity
    type: str
    scheduled_at: datetime | None = None
    attempt_scheduled_at: datetime | None = None
    task_queue: str | None = None
    max_attempts: int | None = None
    input: StoredPayload | None = None
    worker_identity: str | None = None
    build_id: str | None = None
    trace_id: str | None = None
    from_history: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """`attempt.completed`, `attempt.failed`, …: how one try ended, and what it means for the step.

    Attributes:
        closes_step: The step's final status; None when another try follows.
        next_retry_at: When the next try is due.
    """

    attempt: AttemptIdentity
    outcome: AttemptOutcome
    finished_at: datetime
    closes_step: StepStatus | None = None
    next_retry_at: datetime | None = None
    output: StoredPayload | None = None
    error: Failure | None = None
    annotations: Mapping[str, Any] | None = None
    from_history: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowTypeSeen:
    """`workflow_type.seen`: a worker serves this type.

    Attributes:
        aliases: Further names that the facade accepts.
        input_schema: JSON Schema of the argument list: an array with `prefixItems`, one for each
            argument; None if unknown.
    """

    namespace: str
    name: str
    task_queue: str | None
    aliases: tuple[str, ...] = ()
    input_schema: Mapping[str, Any] | None = None
    registered: bool = True


TrackerEvent = (
    RunEvent | ExternalRunReported | StepEvent | AttemptStarted | AttemptEnded | WorkflowTypeSeen
)
