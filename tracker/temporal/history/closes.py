"""How a run ended, and what its end means for the steps that were still open."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.api.history.v1 import HistoryEvent

from tracker.core.events import Failure, RunClosed, StepClosed
from tracker.core.payloads import StoredPayload
from tracker.core.status import RunStatus, StepStatus
from tracker.temporal.failures import timeout_type
from tracker.temporal.history.reading import moment, run_key_of
from tracker.temporal.history.state import OpenStep, Projection, step_failure

RUN_CLOSED = "RunClosed"
"""Error type of a step that its run's end found open."""


def close_open_steps(projection: Projection, closed: RunClosed) -> Iterator[StepClosed]:
    """Every step that the run's end found open, as canceled by it."""
    for opened in projection.open_steps.values():
        yield closed_by_run(opened, closed)


def closed_by_run(opened: OpenStep, closed: RunClosed) -> StepClosed:
    """A step that nobody will close any more."""
    message = f"the run ended as {closed.status} while this step was open"
    return StepClosed(
        step=opened.step,
        type=opened.type,
        status=StepStatus.CANCELED,
        finished_at=closed.finished_at,
        position=opened.position,
        error=Failure(type=RUN_CLOSED, message=message),
        from_history=True,
    )


def _completed(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_completed_event_attributes
    output = projection.stored_result(attributes.result, projection.handling)
    next_key = run_key_of(attributes.new_execution_run_id)
    _close(projection, event, RunStatus.COMPLETED, output=output, continued_to=next_key)


def _failed(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_failed_event_attributes
    error = projection.failure(attributes.failure, projection.handling)
    next_key = run_key_of(attributes.new_execution_run_id)
    _close(projection, event, RunStatus.FAILED, error=error, continued_to=next_key)


def _timed_out(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_timed_out_event_attributes
    # The one timeout of a run, by the name under which its parent sees it.
    kind = timeout_type(TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE)
    error = step_failure(kind, "the run did not end in time", projection.handling)
    next_key = run_key_of(attributes.new_execution_run_id)
    _close(projection, event, RunStatus.TIMED_OUT, error=error, continued_to=next_key)


def _canceled(projection: Projection, event: HistoryEvent) -> None:
    _close(projection, event, RunStatus.CANCELED)


def _terminated(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_terminated_event_attributes
    said = (attributes.reason, attributes.identity and f"by {attributes.identity}")
    message = ", ".join(part for part in said if part) or "terminated"
    error = step_failure("TerminatedError", message, projection.handling)
    _close(projection, event, RunStatus.TERMINATED, error=error)


def _continued(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.workflow_execution_continued_as_new_event_attributes
    next_key = run_key_of(attributes.new_execution_run_id)
    _close(projection, event, RunStatus.CONTINUED_AS_NEW, continued_to=next_key)


def _close(
    projection: Projection,
    event: HistoryEvent,
    status: RunStatus,
    *,
    output: StoredPayload | None = None,
    error: Failure | None = None,
    continued_to: UUID | None = None,
) -> None:
    projection.closed = RunClosed(
        run=projection.run,
        history_length=event.event_id,
        status=status,
        finished_at=moment(event.event_time),
        output=output,
        error=error,
        continued_to=continued_to,
        from_history=True,
    )


HANDLERS = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: _completed,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: _failed,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: _timed_out,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: _canceled,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: _terminated,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: _continued,
}
