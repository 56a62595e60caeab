"""Every event type of Temporal's history: read by a handler, or left out for a stated reason.

A test holds the two tables against the protobuf enum, so that a type that a newer SDK brings fails
the build. At run time a type that neither table knows is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from tracker.temporal.history import (
    activities,
    closes,
    local_activities,
    operations,
    runs,
    waits,
)
from tracker.temporal.history.state import Projection

Handler = Callable[[Projection, HistoryEvent], None]

HANDLERS: Mapping[int, Handler] = {
    **runs.HANDLERS,
    **closes.HANDLERS,
    **activities.HANDLERS,
    **local_activities.HANDLERS,
    **operations.HANDLERS,
    **waits.HANDLERS,
}

_OUTCOME_TELLS = "a request; what came of it is an event of its own"
_OTHER_RUN = "concerns another run, in whose history it is a signal or a cancellation"
_NO_FIELD = "changes nothing that the tables hold"
_NEVER_WRITTEN = "defined, but written by no server"

IGNORED: Mapping[int, str] = {
    EventType.EVENT_TYPE_UNSPECIFIED: _NEVER_WRITTEN,
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED: "the task's start and completion tell the same",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED: _OUTCOME_TELLS,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED: _OUTCOME_TELLS,
    EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUESTED: _OUTCOME_TELLS,
    EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_COMPLETED: _OUTCOME_TELLS,
    EventType.EVENT_TYPE_NEXUS_OPERATION_CANCEL_REQUEST_FAILED: _OUTCOME_TELLS,
    EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: _OTHER_RUN,
    EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED: _OTHER_RUN,
    EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED: _OTHER_RUN,
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: _OTHER_RUN,
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED: _OTHER_RUN,
    EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED: _OTHER_RUN,
    EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES: (
        "Temporal's index; a ref rule reads the search attributes of the start"
    ),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_REJECTED: (
        "written by no server: a rejected update leaves no event, the live side records it"
    ),
    EventType.EVENT_TYPE_ACTIVITY_PROPERTIES_MODIFIED_EXTERNALLY: _NEVER_WRITTEN,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED: _NO_FIELD,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_PAUSED: (
        "a passing state, read from the run's description (`run.paused_at`)"
    ),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UNPAUSED: (
        "a passing state, read from the run's description (`run.paused_at`)"
    ),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIME_SKIPPING_TRANSITIONED: _NO_FIELD,
}
