"""Where a run may go on from: which workflow task to decide anew, and what would run once more.

Pure. Temporal resets a run to the end of a workflow task: the new run keeps every event before it
and decides anew. What a reader gets wrong: a step goes with the workflow task that asked for it, so
its siblings of the same task run again too, and so does whatever ended after that task, which is
why a point tells what it repeats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from tracker.errors import Conflict, InvalidRequest
from tracker.temporal.history.local_activities import MARKER
from tracker.temporal.history.reading import parsed

_TASK_ENDS = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT,
    }
)


@dataclass(frozen=True, slots=True)
class ResetPoint:
    """A workflow task to decide anew.

    Attributes:
        event_id: Of the event that ended it.
        repeats: Names of the steps that had completed and lie behind it, in the order in which
            they ended.
    """

    event_id: int
    repeats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a step ended: which event asked for it, which one ended it."""

    asked_by: int
    event_id: int
    failed: bool


def of_failed_step(history: Sequence[HistoryEvent]) -> ResetPoint:
    """Where the step that failed last was asked for.

    Raises:
        Conflict: No step failed.
    """
    failed = [end for end in _ends(history) if end.failed]
    if not failed:
        raise Conflict(
            "no step of this run failed; reset it to a step or an event (to='step', to='event')"
        )
    return of_event(history, failed[-1].asked_by)


def of_event(history: Sequence[HistoryEvent], event_id: int) -> ResetPoint:
    """Where an event came from: of what a workflow task asked for, that task; of anything else,
    the task that first saw it.

    Raises:
        InvalidRequest: There is no such event.
        Conflict: No workflow task ended there.
    """
    event = next((event for event in history if event.event_id == event_id), None)
    if event is None:
        raise InvalidRequest(
            f"the history has no event {event_id}; it has {len(history)}", field="event_id"
        )
    task = _asking_task(event)
    if task is None:
        ends = (e.event_id for e in history if e.event_type in _TASK_ENDS)
        task = next((end for end in ends if end >= event_id), None)
    if task is None:
        raise Conflict(f"no workflow task ended at event {event_id} or after it")
    return ResetPoint(task, tuple(_repeated(history, task)))


def _repeated(history: Sequence[HistoryEvent], task: int) -> Iterator[str]:
    events = {event.event_id: event for event in history}
    for end in _ends(history):
        if end.event_id > task and not end.failed:
            yield _name(events[end.asked_by])


def _ends(history: Sequence[HistoryEvent]) -> Iterator[_Ended]:
    for event in history:
        kind, attributes = _attributes(event)
        ending = _ENDINGS.get(kind)
        if ending is not None:
            asked_by, failed = ending
            yield _Ended(getattr(attributes, asked_by), event.event_id, failed)
        elif kind == "marker_recorded" and attributes.marker_name == MARKER:
            yield _Ended(event.event_id, event.event_id, attributes.HasField("failure"))


_ENDINGS = {
    "activity_task_completed": ("scheduled_event_id", False),
    "activity_task_failed": ("scheduled_event_id", True),
    "activity_task_timed_out": ("scheduled_event_id", True),
    "child_workflow_execution_completed": ("initiated_event_id", False),
    "child_workflow_execution_failed": ("initiated_event_id", True),
    "child_workflow_execution_timed_out": ("initiated_event_id", True),
    "child_workflow_execution_terminated": ("initiated_event_id", True),
    "start_child_workflow_execution_failed": ("initiated_event_id", True),
    "nexus_operation_completed": ("scheduled_event_id", False),
    "nexus_operation_failed": ("scheduled_event_id", True),
    "nexus_operation_timed_out": ("scheduled_event_id", True),
}
"""Kind of event → (the field that names who asked, whether the step failed)."""


def _asking_task(event: HistoryEvent) -> int | None:
    """The workflow task whose commands caused an event."""
    _, attributes = _attributes(event)
    return getattr(attributes, "workflow_task_completed_event_id", None) or None


def _name(event: HistoryEvent) -> str:
    """What people call the step that an event asked for: as `tracker.workflow.step` named it, else
    its type."""
    summary = parsed(event.user_metadata.summary.data)
    if isinstance(summary, str) and summary:
        return summary
    kind, attributes = _attributes(event)
    if kind == "activity_task_scheduled":
        return attributes.activity_type.name
    if kind == "start_child_workflow_execution_initiated":
        return attributes.workflow_type.name
    if kind == "nexus_operation_scheduled":
        return f"{attributes.service}/{attributes.operation}"
    return "local activity"


def _attributes(event: HistoryEvent) -> tuple[str, Any]:
    name = event.WhichOneof("attributes") or ""
    return name.removesuffix("_event_attributes"), getattr(event, name) if name else None
