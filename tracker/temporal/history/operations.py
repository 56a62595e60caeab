"""Child workflows and Nexus operations: work that a run asks others for."""

from __future__ import annotations

from temporalio.api.enums.v1 import EventType, StartChildWorkflowExecutionFailedCause, TimeoutType
from temporalio.api.history.v1 import HistoryEvent

from tracker.core.events import Failure, RunClosed, StepScheduled, StepStarted
from tracker.core.ids import event_key
from tracker.core.status import StepKind, StepStatus
from tracker.temporal.failures import timeout_type
from tracker.temporal.history.closes import closed_by_run
from tracker.temporal.history.reading import enum_word, moment
from tracker.temporal.history.state import AskedChild, OpenStep, Projection, step_failure


def tell_unstarted_children(projection: Projection, closed: RunClosed) -> None:
    """Children that the run asked for and that its end found not begun. While the run is open they
    have no row: their key, the child's run id, is not known yet."""
    for asked in projection.unstarted.values():
        opened = _tell_unstarted(projection, asked)
        projection.events.append(closed_by_run(opened, closed))


def _child_initiated(projection: Projection, event: HistoryEvent) -> None:
    # Workflow time, by which the live side dates the call.
    projection.unstarted[event.event_id] = AskedChild(event, projection.task.started_at)


def _child_started(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.child_workflow_execution_started_event_attributes
    asked = projection.unstarted.pop(attributes.initiated_event_id, None)
    if asked is None:
        return
    child = attributes.workflow_execution
    opened = _tell_asked(projection, asked, child.run_id)
    projection.events.append(
        StepStarted(
            step=opened.step,
            type=opened.type,
            started_at=moment(event.event_time),
            detail={"workflow_id": child.workflow_id, "run_id": child.run_id},
            from_history=True,
        )
    )


def _child_start_failed(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.start_child_workflow_execution_failed_event_attributes
    asked = projection.unstarted.pop(attributes.initiated_event_id, None)
    if asked is None:
        return
    handling = _tell_unstarted(projection, asked).handling
    if attributes.cause == _ALREADY_EXISTS:
        # In the words of the SDK's WorkflowAlreadyStartedError.
        error = step_failure("WorkflowAlreadyStartedError", _STARTED_ALREADY, handling)
    else:
        word = enum_word(StartChildWorkflowExecutionFailedCause, attributes.cause, _CAUSE)
        error = step_failure("ChildStartFailed", word.lower().replace("_", " "), handling)
    projection.close_step(event, attributes.initiated_event_id, StepStatus.FAILED, error=error)


def _tell_unstarted(projection: Projection, asked: AskedChild) -> OpenStep:
    return _tell_asked(projection, asked, event_key(asked.event.event_id))


def _tell_asked(projection: Projection, asked: AskedChild, key: str) -> OpenStep:
    event = asked.event
    attributes = event.start_child_workflow_execution_initiated_event_attributes
    type_ = attributes.workflow_type.name
    opened = projection.open_step(event.event_id, StepKind.CHILD_WORKFLOW, key, type_, type_)
    unstarted = {"workflow_id": attributes.workflow_id} if key.startswith("event:") else None
    projection.events.append(
        StepScheduled(
            step=opened.step,
            type=type_,
            scheduled_at=asked.asked_at,
            task_queue=attributes.task_queue.name,
            input=projection.stored(attributes.input, opened.handling),
            detail=unstarted,
            event_id=event.event_id,
            from_history=True,
        )
    )
    return opened


def _child_completed(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.child_workflow_execution_completed_event_attributes
    asked_by = attributes.initiated_event_id
    projection.close_step(event, asked_by, StepStatus.COMPLETED, result=attributes.result)


def _child_failed(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.child_workflow_execution_failed_event_attributes
    asked_by = attributes.initiated_event_id
    projection.close_step(event, asked_by, StepStatus.FAILED, failure=attributes.failure)


def _child_canceled(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.child_workflow_execution_canceled_event_attributes
    projection.close_step(event, attributes.initiated_event_id, StepStatus.CANCELED)


def _child_timed_out(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.child_workflow_execution_timed_out_event_attributes
    # History has no failure here; these are the words of the one that the SDK makes of it.
    error = Failure(type=timeout_type(TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE), message="Timed out")
    projection.close_step(event, attributes.initiated_event_id, StepStatus.TIMED_OUT, error=error)


def _child_terminated(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.child_workflow_execution_terminated_event_attributes
    error = Failure(type="TerminatedError", message="Terminated")
    projection.close_step(event, attributes.initiated_event_id, StepStatus.FAILED, error=error)


def _nexus_scheduled(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_scheduled_event_attributes
    key, type_ = event_key(event.event_id), f"{attributes.service}/{attributes.operation}"
    opened = projection.open_step(
        event.event_id, StepKind.NEXUS_OPERATION, key, attributes.operation, type_
    )
    projection.events.append(
        StepScheduled(
            step=opened.step,
            type=type_,
            scheduled_at=moment(event.event_time),
            input=projection.stored_result(attributes.input, opened.handling),
            detail={"endpoint": attributes.endpoint},
            event_id=event.event_id,
            from_history=True,
        )
    )


def _nexus_started(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_started_event_attributes
    opened = projection.open_steps.get(attributes.scheduled_event_id)
    if opened is None:
        return
    projection.events.append(
        StepStarted(
            step=opened.step,
            type=opened.type,
            started_at=moment(event.event_time),
            from_history=True,
        )
    )


def _nexus_completed(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_completed_event_attributes
    asked_by = attributes.scheduled_event_id
    projection.close_step(event, asked_by, StepStatus.COMPLETED, result=attributes.result)


def _nexus_failed(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_failed_event_attributes
    asked_by = attributes.scheduled_event_id
    projection.close_step(event, asked_by, StepStatus.FAILED, failure=attributes.failure)


def _nexus_canceled(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_canceled_event_attributes
    projection.close_step(event, attributes.scheduled_event_id, StepStatus.CANCELED)


def _nexus_timed_out(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.nexus_operation_timed_out_event_attributes
    asked_by = attributes.scheduled_event_id
    projection.close_step(event, asked_by, StepStatus.TIMED_OUT, failure=attributes.failure)


_CAUSE = "START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_"
_ALREADY_EXISTS = StartChildWorkflowExecutionFailedCause.Value(f"{_CAUSE}WORKFLOW_ALREADY_EXISTS")
_STARTED_ALREADY = "Workflow execution already started"

HANDLERS = {
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: _child_initiated,
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED: _child_start_failed,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED: _child_started,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED: _child_completed,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED: _child_failed,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED: _child_canceled,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT: _child_timed_out,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED: _child_terminated,
    EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED: _nexus_scheduled,
    EventType.EVENT_TYPE_NEXUS_OPERATION_STARTED: _nexus_started,
    EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED: _nexus_completed,
    EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED: _nexus_failed,
    EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED: _nexus_canceled,
    EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT: _nexus_timed_out,
}
