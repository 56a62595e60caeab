"""What history says about the run itself: its start, workflow tasks, memo, and end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes

from tracker.core.events import (
    Failure,
    RunIdentity,
    RunMetadataSet,
    RunRefAdded,
    RunStarted,
    RunTaskFailed,
)
from tracker.core.ids import Ref
from tracker.core.memo import MEMO_FIELD, Carried, read_memo
from tracker.core.payloads import PayloadPolicy, StoredPayload
from tracker.errors import InvalidRequest
from tracker.temporal.failures import timeout_type
from tracker.temporal.history.reading import enum_word, moment, parsed, run_key_of
from tracker.temporal.history.state import (
    Clear,
    Projection,
    WorkflowTask,
    own_json,
    step_failure,
)


@dataclass(frozen=True, slots=True)
class RunStart:
    """What a rule may look at to derive the ref of a run that carries none.

    Attributes:
        arguments: As JSON values; one that cannot be read is None.
        search_attributes: Those of the start, as JSON values.
    """

    workflow_type: str
    workflow_id: str
    arguments: tuple[Any, ...]
    search_attributes: Mapping[str, Any]


RefRules = Callable[[RunStart], Ref | None]


STARTED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
"""Always the first event; read apart from the others, since it makes the projection."""


def begin(
    history: Sequence[HistoryEvent],
    run_key: UUID,
    *,
    namespace: str,
    workflow_id: str,
    policy: PayloadPolicy,
    clear: Clear | None,
    ref_rules: RefRules | None,
) -> Projection:
    """Read the run's start; see `projection.project`."""
    if not history or history[0].event_type != STARTED:
        raise InvalidRequest(
            "expected a history that begins with WORKFLOW_EXECUTION_STARTED, its first event"
        )
    event = history[0]
    attributes = event.workflow_execution_started_event_attributes
    carried = _carried(attributes.memo.fields, clear) or Carried()
    start = _Start(event, attributes, carried, namespace, workflow_id, run_key)
    run = start.identity(_rule_ref(start, clear, ref_rules) if carried.ref is None else None)
    handling = policy.handling(run.workflow_type)
    projection = Projection(run, policy, handling, carried, clear, WorkflowTask(1, run.started_at))
    _add_links(projection, event.event_id, ())
    return projection


@dataclass(frozen=True, slots=True)
class _Start:
    event: HistoryEvent
    attributes: WorkflowExecutionStartedEventAttributes
    carried: Carried
    namespace: str
    workflow_id: str
    run_key: UUID

    def identity(self, rule_ref: Ref | None) -> RunIdentity:
        attributes = self.attributes
        first_key = run_key_of(attributes.first_execution_run_id) or self.run_key
        parent = attributes.parent_workflow_execution
        return RunIdentity(
            id=self.carried.run_id(self.namespace, self.workflow_id, self.run_key, first_key),
            namespace=self.namespace,
            run_key=self.run_key,
            workflow_type=attributes.workflow_type.name,
            workflow_id=self.workflow_id,
            task_queue=attributes.task_queue.name,
            first_run_key=first_key,
            started_at=moment(self.event.event_time),
            ref=self.carried.ref,
            rule_ref=rule_ref,
            parent_run_key=run_key_of(parent.run_id),
            parent_workflow_id=parent.workflow_id or None,
            root_run_key=run_key_of(attributes.root_workflow_execution.run_id),
            continued_from=run_key_of(attributes.continued_execution_run_id),
            attempt=attributes.attempt or 1,
            cron_schedule=attributes.cron_schedule or None,
        )


def started(projection: Projection, event: HistoryEvent) -> RunStarted:
    """The run's start, with the worker that completed its latest workflow task.

    Args:
        event: `WORKFLOW_EXECUTION_STARTED`.
    """
    task = projection.task
    metadata = _carried_at_start(projection, event).metadata
    return RunStarted(
        run=projection.run,
        history_length=task.completed_id,
        metadata=metadata if metadata and projection.handling.keeps_text else None,
        input=_input(projection, event),
        worker_identity=task.worker_identity,
        build_id=task.build_id,
        from_history=True,
    )


def metadata_verdict(projection: Projection) -> RunMetadataSet | None:
    """Of a closed run: the metadata it ended with, which no live claim may outlast."""
    if projection.closed is None or not projection.carried.metadata:
        return None
    if not projection.handling.keeps_text:
        return None
    return RunMetadataSet(
        run=projection.run,
        history_length=projection.closed.history_length,
        metadata=projection.carried.metadata,
        from_history=True,
    )


def _carried_at_start(projection: Projection, event: HistoryEvent) -> Carried:
    memo = event.workflow_execution_started_event_attributes.memo
    return _carried(memo.fields, projection.clear) or Carried()


def _input(projection: Projection, event: HistoryEvent) -> StoredPayload | None:
    attributes = event.workflow_execution_started_event_attributes
    return projection.stored(attributes.input, projection.handling)


def _carried(fields: Mapping[str, Payload], clear: Clear | None) -> Carried | None:
    payload = fields.get(MEMO_FIELD)
    return None if payload is None else read_memo(parsed(own_json(clear, payload)))


def _rule_ref(start: _Start, clear: Clear | None, ref_rules: RefRules | None) -> Ref | None:
    if ref_rules is None:
        return None
    attributes = start.attributes
    payloads = attributes.input.payloads
    decoded = payloads if clear is None or not payloads else clear(payloads)
    indexed = attributes.search_attributes.indexed_fields
    return ref_rules(
        RunStart(
            workflow_type=attributes.workflow_type.name,
            workflow_id=start.workflow_id,
            arguments=tuple(parsed(own_json(None, payload)) for payload in decoded or ()),
            search_attributes={key: parsed(value.data) for key, value in indexed.items()},
        )
    )


def _add_links(projection: Projection, event_id: int, known: tuple[Ref, ...]) -> None:
    carried = projection.carried
    for position, link in enumerate(carried.links):
        if link in known:
            continue
        # As the live side tells it; where a rule gave a ref, that outranks this one.
        primary = projection.run.ref is None and position == 0
        projection.events.append(
            RunRefAdded(
                run=projection.run,
                history_length=event_id,
                ref=link,
                primary=primary,
                from_history=True,
            )
        )


def _memo_changed(projection: Projection, event: HistoryEvent) -> None:
    _upserted(
        projection,
        event,
        event.workflow_properties_modified_event_attributes.upserted_memo.fields,
    )


def _memo_changed_externally(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.workflow_properties_modified_externally_event_attributes
    _upserted(projection, event, attributes.upserted_memo.fields)


def _upserted(projection: Projection, event: HistoryEvent, fields: Mapping[str, Payload]) -> None:
    carried = _carried(fields, projection.clear)
    if carried is None:
        return
    before, projection.carried = projection.carried, carried
    _add_links(projection, event.event_id, before.links)
    if carried.metadata != before.metadata and projection.handling.keeps_text:
        # Without authority: the run may be open, and a later live change must win.
        projection.events.append(
            RunMetadataSet(
                run=projection.run, history_length=event.event_id, metadata=carried.metadata
            )
        )


def _task_started(projection: Projection, event: HistoryEvent) -> None:
    projection.task.started_at = moment(event.event_time)


def _task_completed(projection: Projection, event: HistoryEvent) -> None:
    attributes, task = event.workflow_task_completed_event_attributes, projection.task
    task.completed_id = event.event_id
    task.worker_identity = attributes.identity or None
    task.build_id = (
        attributes.deployment_version.build_id or attributes.worker_version.build_id or None
    )


def _task_timed_out(projection: Projection, event: HistoryEvent) -> None:
    kind = event.workflow_task_timed_out_event_attributes.timeout_type
    # Schedule-to-start: the sticky worker is gone and another takes over, nothing failed.
    if kind == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE:
        message = "the worker did not complete the workflow task in time"
        _task_failure(
            projection, event, step_failure(timeout_type(kind), message, projection.handling)
        )


def _task_failed(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.workflow_task_failed_event_attributes
    if attributes.cause == _RESET and projection.run.continued_from is None:
        _reset(projection, run_key_of(attributes.base_run_id))
    if attributes.cause in _HARMLESS_CAUSES:
        return
    error = projection.failure(attributes.failure, projection.handling)
    if attributes.cause != _UNHANDLED:
        error = Failure(type=_cause_name(attributes.cause), message=error.message)
    _task_failure(projection, event, error)


_RESET = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
_UNHANDLED = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_WORKFLOW_WORKER_UNHANDLED_FAILURE
_HARMLESS_CAUSES = frozenset(
    {
        _RESET,
        # Something arrived while the task completed; the server asks again, with it.
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND,
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_STICKY_TASK_QUEUE,
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FAILOVER_CLOSE_COMMAND,
        WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_FORCE_CLOSE_COMMAND,
    }
)


def _cause_name(cause: int) -> str:
    word = enum_word(WorkflowTaskFailedCause, cause, "WORKFLOW_TASK_FAILED_CAUSE_")
    return word.title().replace("_", "")


def _reset(projection: Projection, base: UUID | None) -> None:
    # A reset joins the chain of the run that it starts from, unless that run itself was continued:
    # the predecessor named by the start event is then what the live side tells as well.
    projection.run = replace(projection.run, continued_from=base)


def _task_failure(projection: Projection, event: HistoryEvent, error: Failure) -> None:
    projection.events.append(
        RunTaskFailed(
            run=projection.run,
            history_length=event.event_id,
            failed_at=moment(event.event_time),
            error=error,
            from_history=True,
        )
    )


HANDLERS = {
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED: _task_started,
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED: _task_completed,
    EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT: _task_timed_out,
    EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED: _task_failed,
    EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED: _memo_changed,
    EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED_EXTERNALLY: _memo_changed_externally,
}
