"""From events to rows: the one reducer through which every recorded status passes.

`fold(events)` gives at most one row per key and table, ready for one statement. It knows nothing
of the rows already stored; the merge rules (`core.merge`) make that unnecessary.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import singledispatch
from typing import Any
from uuid import UUID

from tracker.core.batch import Batch
from tracker.core.columns import (
    REF_FROM_MEMO,
    REF_FROM_WORKFLOW,
    attempt_columns,
    error_columns,
    identity_columns,
    primary_columns,
    step_columns,
)
from tracker.core.events import (
    AttemptEnded,
    AttemptStarted,
    ExternalRunReported,
    RunClosed,
    RunEvent,
    RunMetadataSet,
    RunProjected,
    RunRefAdded,
    RunStarted,
    RunTaskFailed,
    StepClosed,
    StepProgressed,
    StepScheduled,
    StepStarted,
    TrackerEvent,
    WorkflowTypeSeen,
)
from tracker.core.jsonb import is_recordable, recordable
from tracker.core.merge import ATTEMPT, RUN, STEP, Row
from tracker.core.status import (
    CLOSED_RUN_STATUSES,
    HISTORY_AUTHORITY,
    AttemptOutcome,
    Engine,
    OutcomeRank,
    RunRank,
    RunStatus,
    StepRank,
    StepStatus,
    metadata_version,
    run_version,
    step_version,
)


def fold(events: Iterable[TrackerEvent]) -> Batch:
    """Reduce events, in whatever order they came, to the rows that they state."""
    batch = Batch()
    for event in events:
        _apply(event, batch)
    return batch


@singledispatch
def _apply(event: Any, batch: Batch) -> None:
    raise TypeError(f"not a tracker event: {event!r}")


@_apply.register
def _(event: RunEvent, batch: Batch) -> None:
    batch.add(RUN, _seen_running(event))


@_apply.register
def _(event: RunStarted, batch: Batch) -> None:
    row = _seen_running(event)
    row |= {
        **_input(event.run.id, event, event.run.started_at, batch),
        "worker_version": None if event.worker_identity is None else event.history_length,
        "worker_identity": event.worker_identity,
        "build_id": event.build_id,
    }
    if event.metadata is not None:
        row |= {"metadata_version": 0, "metadata": recordable(event.metadata)}
    batch.add(RUN, row)
    run = event.run
    seen = WorkflowTypeSeen(
        namespace=run.namespace,
        name=run.workflow_type,
        task_queue=run.task_queue,
        registered=False,
    )
    batch.workflow_types.setdefault((run.namespace, run.workflow_type), seen)


@_apply.register
def _(event: RunClosed, batch: Batch) -> None:
    version = run_version(RunRank.CLOSED, event.history_length, from_history=event.from_history)
    row = identity_columns(event.run) | {
        "status_version": version,
        "status": event.status,
        "finished_at": event.finished_at,
        "output_id": batch.keep(event.run.id, "output", event.output, event.finished_at),
        "continued_to": event.continued_to,
        **error_columns(event.error),
        "error_stack": None if event.error is None else event.error.stack,
    }
    batch.add(RUN, row)


@_apply.register
def _(event: RunTaskFailed, batch: Batch) -> None:
    row = _seen_running(event) | {
        "task_failure_version": event.history_length,
        "task_failed_at": event.failed_at,
        "task_failure_type": event.error.type,
        "task_failure_message": event.error.message,
    }
    batch.add(RUN, row)


@_apply.register
def _(event: RunMetadataSet, batch: Batch) -> None:
    version = metadata_version(event.history_length, event.ordinal, from_history=event.from_history)
    row = _seen_running(event) | {
        "metadata_version": version,
        "metadata": recordable(event.metadata),
    }
    batch.add(RUN, row)


@_apply.register
def _(event: RunRefAdded, batch: Batch) -> None:
    row = _seen_running(event)
    if event.primary:
        row |= primary_columns(event.ref, REF_FROM_WORKFLOW)
    batch.add(RUN, row)
    batch.refs.add((event.run.id, event.ref))


@_apply.register
def _(event: RunProjected, batch: Batch) -> None:
    row = _seen_running(event) | {
        "projected_length": event.history_length,
        "projected_at": event.projected_at,
    }
    batch.add(RUN, row)


@_apply.register
def _(event: ExternalRunReported, batch: Batch) -> None:
    run, ended = event.run, event.status in CLOSED_RUN_STATUSES
    # FIRST and MIN columns come with every report, so that any of them can be the first.
    row: Row = {
        "id": run.id,
        "namespace": run.namespace,
        "engine": Engine.EXTERNAL,
        "workflow_type": run.workflow_type,
        "workflow_id": run.own_id,
        "run_key": run.id,
        "first_run_key": run.id,
        "ordered_at": event.at,
        "accepted_at": event.at,
    }
    if event.status is not RunStatus.ACCEPTED:
        row["started_at"] = event.started_at or event.at
    if run.ref is not None:
        row |= primary_columns(run.ref, REF_FROM_MEMO)
    if event.states:
        rank = _RANKS.get(event.status, RunRank.CLOSED)
        row |= {
            "status_version": run_version(rank, event.position, from_history=True),
            "status": event.status,
            "finished_at": (event.finished_at or event.at) if ended else None,
            "output_id": batch.keep(run.id, "output", event.output, event.at),
            **error_columns(event.error),
            "error_stack": None if event.error is None else event.error.stack,
        }
    else:  # An insert needs a status, and it must not win over the one that is on record.
        row |= {"status_version": -1, "status": event.status}
        row |= {"finished_at": event.finished_at or event.at} if ended else {}
    key = batch.keep(run.id, "input", event.input, event.at)
    row |= {} if key is None else {"input_version": 0, "input_id": key}
    if event.metadata is not None:
        version = HISTORY_AUTHORITY | event.position
        row |= {"metadata_version": version, "metadata": recordable(event.metadata)}
    batch.add(RUN, row)
    seen = WorkflowTypeSeen(
        namespace=run.namespace, name=run.workflow_type, task_queue=None, registered=False
    )
    batch.workflow_types.setdefault((run.namespace, run.workflow_type), seen)


_RANKS = {RunStatus.ACCEPTED: RunRank.ACCEPTED, RunStatus.RUNNING: RunRank.RUNNING}


@_apply.register
def _(event: StepScheduled, batch: Batch) -> None:
    row = step_columns(event.step, event.type) | {
        "scheduled_at": event.scheduled_at,
        "task_queue": event.task_queue,
        "max_attempts": event.max_attempts or None,
        **_input(event.step.id, event, event.scheduled_at, batch),
        "detail": None if event.detail is None else recordable(event.detail),
        "event_id": event.event_id,
        "status_version": step_version(StepRank.SCHEDULED, 0),
        "status": StepStatus.SCHEDULED,
    }
    batch.add(STEP, row)


@_apply.register
def _(event: StepStarted, batch: Batch) -> None:
    row = step_columns(event.step, event.type) | {
        "scheduled_at": event.scheduled_at,
        "started_at": event.started_at,
        "last_started_at": event.started_at,
        **_input(event.step.id, event, event.started_at, batch),
        "detail": None if event.detail is None else recordable(event.detail),
        "event_id": event.event_id,
        "status_version": step_version(StepRank.STARTED, 0),
        "status": StepStatus.STARTED,
    }
    batch.add(STEP, row)


@_apply.register
def _(event: StepClosed, batch: Batch) -> None:
    version = step_version(StepRank.CLOSED, event.position, from_history=event.from_history)
    row = step_columns(event.step, event.type) | {
        "attempts": event.attempts,
        "detail": None if event.detail is None else recordable(event.detail),
        "status_version": version,
        "status": event.status,
        "finished_at": event.finished_at,
        "output_id": batch.keep(event.step.id, "output", event.output, event.finished_at),
        **error_columns(event.error),
    }
    batch.add(STEP, row)


@_apply.register
def _(event: StepProgressed, batch: Batch) -> None:
    row = step_columns(event.step, None) | {
        "progress_at": event.at,
        "progress": event.progress if is_recordable(event.progress) else None,
        "status_version": step_version(StepRank.SCHEDULED, 0),
        "status": StepStatus.SCHEDULED,
    }
    batch.add(STEP, row)


@_apply.register
def _(event: AttemptStarted, batch: Batch) -> None:
    attempt = event.attempt
    step_row: Row = step_columns(attempt.step, event.type) | {
        "scheduled_at": event.scheduled_at,
        "started_at": attempt.started_at,
        "last_started_at": attempt.started_at,
        "attempts": attempt.number,
        "task_queue": event.task_queue,
        "max_attempts": event.max_attempts or None,
        "status_version": step_version(StepRank.STARTED, attempt.position),
        "status": StepStatus.STARTED,
    }
    step_id: UUID = step_row["id"]
    step_row |= _input(step_id, event, event.scheduled_at or attempt.started_at, batch)
    batch.add(STEP, step_row)
    row = attempt_columns(attempt, step_id) | {
        "scheduled_at": event.attempt_scheduled_at,
        "task_queue": event.task_queue,
        "worker_identity": event.worker_identity,
        "build_id": event.build_id,
        "trace_id": event.trace_id,
        "outcome_version": OutcomeRank.RUNNING,
        "outcome": AttemptOutcome.RUNNING,
    }
    batch.add(ATTEMPT, row)


@_apply.register
def _(event: AttemptEnded, batch: Batch) -> None:
    attempt = event.attempt
    if event.outcome is not AttemptOutcome.LOST:  # Nobody saw it end: it says nothing of its step.
        batch.add(STEP, _step_after(event, batch))
    batch.add(ATTEMPT, attempt_columns(attempt, attempt.step.id) | _outcome(event))


def _step_after(event: AttemptEnded, batch: Batch) -> Row:
    attempt, closes = event.attempt, event.closes_step
    rank = StepRank.BACKING_OFF if closes is None else StepRank.CLOSED
    authority = event.from_history and closes is not None
    row: Row = step_columns(attempt.step, None) | {
        "started_at": attempt.started_at,
        "last_started_at": attempt.started_at,
        "attempts": attempt.number,
        "status_version": step_version(rank, attempt.position, from_history=authority),
        "status": StepStatus.SCHEDULED if closes is None else closes,
        "finished_at": None if closes is None else event.finished_at,
        "next_retry_at": event.next_retry_at if closes is None else None,
        **error_columns(event.error),
    }
    if closes is StepStatus.COMPLETED:
        row["output_id"] = batch.keep(row["id"], "output", event.output, attempt.started_at)
    return row


@_apply.register
def _(event: WorkflowTypeSeen, batch: Batch) -> None:
    key = (event.namespace, event.name)
    known = batch.workflow_types.get(key)
    if known is None or (event.registered and not known.registered):
        batch.workflow_types[key] = event


_MAY_BE_RETRIED = (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT)


def _outcome(event: AttemptEnded) -> Row:
    rank = OutcomeRank.HISTORY if event.from_history else OutcomeRank.REPORTED
    return {
        "outcome_version": OutcomeRank.LOST if event.outcome is AttemptOutcome.LOST else rank,
        "outcome": event.outcome,
        "finished_at": event.finished_at,
        "next_retry_at": event.next_retry_at if event.outcome in _MAY_BE_RETRIED else None,
        "annotations": None if event.annotations is None else recordable(event.annotations),
        **error_columns(event.error),
        "error_stack": None if event.error is None else event.error.stack,
    }


def _input(
    owner: UUID,
    event: RunStarted | StepScheduled | StepStarted | AttemptStarted,
    moment: datetime,
    batch: Batch,
) -> Row:
    """The input as its source has it: a worker's types may drop or coerce what history keeps."""
    key = batch.keep(owner, "input", event.input, moment)
    return {} if key is None else {"input_version": int(event.from_history), "input_id": key}


def _seen_running(event: RunEvent) -> Row:
    return identity_columns(event.run) | {
        "status_version": run_version(RunRank.RUNNING, event.history_length),
        "status": RunStatus.RUNNING,
    }
