"""Activities in history: scheduled, the last attempt's start, and the end.

What a reader would get wrong: the server writes an activity's start only when it ends, so history
shows the last attempt alone; of the one before it remains the failure, of the others nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import EventType, RetryState
from temporalio.api.failure.v1 import Failure as FailureProto
from temporalio.api.history.v1 import ActivityTaskStartedEventAttributes, HistoryEvent

from tracker.core.events import (
    AttemptEnded,
    AttemptIdentity,
    AttemptStarted,
    StepClosed,
    StepScheduled,
)
from tracker.core.headers import HEADER, read_header
from tracker.core.ids import activity_key
from tracker.core.payloads import StoredPayload
from tracker.core.status import AttemptOutcome, StepKind, StepStatus
from tracker.temporal.history.reading import enum_word, moment
from tracker.temporal.history.state import OpenStep, Projection, own_json


@dataclass(slots=True)
class OpenActivity(OpenStep):
    """An activity that history has not closed so far.

    Attributes:
        start: Of its last attempt, once history has it.
    """

    scheduled_at: datetime = field(kw_only=True)
    task_queue: str = field(kw_only=True)
    max_attempts: int = field(kw_only=True)
    input: StoredPayload | None = field(kw_only=True)
    event_id: int = field(kw_only=True)
    attempt: AttemptIdentity | None = None
    start: ActivityTaskStartedEventAttributes | None = None


def tell_asked(projection: Projection, opened: OpenActivity, detail: Mapping[str, Any]) -> None:
    """Tell that it was scheduled, and its attempt's start if history has one."""
    projection.events.append(
        StepScheduled(
            step=opened.step,
            type=opened.type,
            scheduled_at=opened.scheduled_at,
            task_queue=opened.task_queue,
            max_attempts=opened.max_attempts,
            input=opened.input,
            detail=detail or None,
            event_id=opened.event_id,
            from_history=True,
        )
    )
    start = opened.start
    if opened.attempt is None or start is None:
        return
    projection.events.append(
        AttemptStarted(
            attempt=opened.attempt,
            type=opened.type,
            scheduled_at=opened.scheduled_at,
            task_queue=opened.task_queue,
            max_attempts=opened.max_attempts,
            worker_identity=start.identity or None,
            build_id=start.worker_version.build_id or None,
            from_history=True,
        )
    )


def _scheduled(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.activity_task_scheduled_event_attributes
    type_ = attributes.activity_type.name
    header = attributes.header.fields.get(HEADER)
    named = None if header is None else read_header(own_json(projection.clear, header)).step
    scheduled_at = moment(event.event_time)
    key = activity_key(attributes.activity_id, scheduled_at)
    step = projection.step_identity(StepKind.ACTIVITY, key, named or type_)
    handling = projection.handling_of(step, type_)
    projection.open_steps[event.event_id] = OpenActivity(
        step,
        type_,
        handling,
        scheduled_at=scheduled_at,
        task_queue=attributes.task_queue.name,
        max_attempts=attributes.retry_policy.maximum_attempts,
        input=projection.stored(attributes.input, handling),
        event_id=event.event_id,
    )


def _started(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.activity_task_started_event_attributes
    opened = projection.open_steps.get(attributes.scheduled_event_id)
    if not isinstance(opened, OpenActivity):
        return
    opened.start = attributes
    opened.attempt = AttemptIdentity(
        step=opened.step, number=attributes.attempt, started_at=moment(event.event_time)
    )
    opened.position = opened.attempt.position


def _completed(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.activity_task_completed_event_attributes
    end = _End(AttemptOutcome.COMPLETED, StepStatus.COMPLETED, result=attributes.result)
    _ended(projection, event, attributes.scheduled_event_id, end)


def _failed(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.activity_task_failed_event_attributes
    end = _End(
        AttemptOutcome.FAILED,
        StepStatus.FAILED,
        failure=attributes.failure,
        retry_state=attributes.retry_state,
    )
    _ended(projection, event, attributes.scheduled_event_id, end)


def _timed_out(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.activity_task_timed_out_event_attributes
    end = _End(
        AttemptOutcome.TIMED_OUT,
        StepStatus.TIMED_OUT,
        failure=attributes.failure,
        retry_state=attributes.retry_state,
    )
    _ended(projection, event, attributes.scheduled_event_id, end)


def _canceled(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.activity_task_canceled_event_attributes
    end = _End(AttemptOutcome.CANCELED, StepStatus.CANCELED)
    _ended(projection, event, attributes.scheduled_event_id, end)


@dataclass(frozen=True, slots=True)
class _End:
    outcome: AttemptOutcome
    status: StepStatus
    result: Payloads | None = None
    failure: FailureProto | None = None
    retry_state: RetryState.ValueType = RetryState.RETRY_STATE_UNSPECIFIED


def _ended(projection: Projection, event: HistoryEvent, scheduled_id: int, end: _End) -> None:
    opened = projection.open_steps.pop(scheduled_id, None)
    if not isinstance(opened, OpenActivity):
        return
    tell_asked(projection, opened, _detail(projection, opened, end))
    handling, finished_at = opened.handling, moment(event.event_time)
    output = None if end.result is None else projection.stored_result(end.result, handling)
    error = None if end.failure is None else projection.failure(end.failure, handling)
    if opened.attempt is not None:
        ended = AttemptEnded(
            attempt=opened.attempt,
            outcome=end.outcome,
            finished_at=finished_at,
            closes_step=end.status,
            output=output,
            error=error,
            from_history=True,
        )
    else:
        # Canceled or timed out while no attempt was under way.
        ended = StepClosed(
            step=opened.step,
            type=opened.type,
            status=end.status,
            finished_at=finished_at,
            output=output,
            error=error,
            from_history=True,
        )
    projection.events.append(ended)


def _detail(projection: Projection, opened: OpenActivity, end: _End) -> dict[str, Any]:
    """Why there was no further try, and what went wrong in the try before the last."""
    detail: dict[str, Any] = {}
    if end.retry_state:
        detail["retry_state"] = enum_word(RetryState, end.retry_state, "RETRY_STATE_").lower()
    if opened.start is not None and opened.start.HasField("last_failure"):
        error = projection.failure(opened.start.last_failure, opened.handling)
        detail["last_failure"] = {"type": error.type} | (
            {} if error.message is None else {"message": error.message}
        )
    return detail


HANDLERS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: _scheduled,
    EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED: _started,
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: _completed,
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: _failed,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: _timed_out,
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: _canceled,
}
