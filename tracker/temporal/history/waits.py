"""What a run waits for or is told from outside: timers, signals, updates.

Timers and signals are known from history alone: the SDK has no hook for the one, and no id for the
other. A rejected update leaves no event and is told live only.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.update.v1 import Request

from tracker.core.events import StepScheduled, StepStarted
from tracker.core.ids import event_key
from tracker.core.status import StepKind, StepStatus
from tracker.temporal.history.reading import moment
from tracker.temporal.history.state import OpenStep, Projection

TIMER = "timer"
"""Type of every timer, and the name of one that the workflow gave no summary."""

_TOLERANCE = timedelta(milliseconds=1)


def _timer_started(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.timer_started_event_attributes
    length = attributes.start_to_fire_timeout.ToTimedelta()
    if projection.backoffs and _is_backoff(projection, length):
        return  # Part of its local activity, which is one step.
    started_at = moment(event.event_time)
    key, name = event_key(event.event_id), projection.summary(event) or TIMER
    opened = projection.open_step(event.event_id, StepKind.TIMER, key, name, TIMER)
    fires_at = (started_at + length).isoformat()
    projection.events.append(
        StepStarted(
            step=opened.step,
            type=TIMER,
            started_at=started_at,
            detail={"fires_at": fires_at, "timer_id": attributes.timer_id},
            event_id=event.event_id,
            from_history=True,
        )
    )


def _is_backoff(projection: Projection, length: timedelta) -> bool:
    task_id = projection.task.completed_id
    for backoff in projection.backoffs:
        if backoff[0] == task_id and abs(backoff[1] - length) <= _TOLERANCE:
            projection.backoffs.remove(backoff)
            return True
    return False


def _timer_fired(projection: Projection, event: HistoryEvent) -> None:
    started_id = event.timer_fired_event_attributes.started_event_id
    projection.close_step(event, started_id, StepStatus.COMPLETED)


def _timer_canceled(projection: Projection, event: HistoryEvent) -> None:
    started_id = event.timer_canceled_event_attributes.started_event_id
    projection.close_step(event, started_id, StepStatus.CANCELED)


def _signaled(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_signaled_event_attributes
    name = attributes.signal_name
    opened = projection.open_step(
        event.event_id, StepKind.SIGNAL, event_key(event.event_id), name, name
    )
    projection.events.append(
        StepStarted(
            step=opened.step,
            type=name,
            started_at=moment(event.event_time),
            input=projection.stored(attributes.input, opened.handling),
            detail={"identity": attributes.identity} if attributes.identity else None,
            event_id=event.event_id,
            from_history=True,
        )
    )
    projection.close_step(event, event.event_id, StepStatus.COMPLETED)


def _update_admitted(projection: Projection, event: HistoryEvent) -> None:
    """Written where a reset replays an update that was waiting."""
    request = event.workflow_execution_update_admitted_event_attributes.request
    opened = _open_update(projection, event, request)
    projection.updates[request.meta.update_id] = event.event_id
    projection.events.append(
        StepScheduled(
            step=opened.step,
            type=opened.type,
            scheduled_at=moment(event.event_time),
            input=projection.stored(request.input.args, opened.handling),
            from_history=True,
        )
    )


def _update_accepted(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_update_accepted_event_attributes
    request = attributes.accepted_request
    admitted = projection.updates.get(attributes.protocol_instance_id)
    opened = None if admitted is None else projection.open_steps.pop(admitted, None)
    is_new = opened is None
    if opened is None:
        opened = _open_update(projection, event, request)
    projection.open_steps[event.event_id] = opened
    projection.events.append(
        StepStarted(
            step=opened.step,
            type=opened.type,
            # Workflow time, by which its handler dates itself.
            started_at=projection.task.started_at,
            input=projection.stored(request.input.args, opened.handling) if is_new else None,
            event_id=event.event_id,
            from_history=True,
        )
    )


def _open_update(projection: Projection, event: HistoryEvent, request: Request) -> OpenStep:
    name = request.input.name
    return projection.open_step(event.event_id, StepKind.UPDATE, request.meta.update_id, name, name)


def _update_completed(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_update_completed_event_attributes
    outcome = attributes.outcome
    failed = outcome.HasField("failure")
    projection.close_step(
        event,
        attributes.accepted_event_id,
        StepStatus.FAILED if failed else StepStatus.COMPLETED,
        result=None if failed else outcome.success,
        failure=outcome.failure if failed else None,
    )


HANDLERS = {
    EventType.EVENT_TYPE_TIMER_STARTED: _timer_started,
    EventType.EVENT_TYPE_TIMER_FIRED: _timer_fired,
    EventType.EVENT_TYPE_TIMER_CANCELED: _timer_canceled,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED: _signaled,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED: _update_admitted,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: _update_accepted,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED: _update_completed,
}
