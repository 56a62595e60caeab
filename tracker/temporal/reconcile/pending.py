"""From what Temporal says of an open run to what it waits for (`core.waiting`), and to attempts of
which the tables still think that they are under way.

The description is read before the rows, so an attempt on record may be newer than it: only those
that began before the server's latest one have certainly ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from temporalio.api.enums.v1 import PendingActivityState, PendingWorkflowTaskState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

from tracker.core.events import AttemptEnded, AttemptIdentity, StepIdentity
from tracker.core.payloads import PayloadPolicy
from tracker.core.status import AttemptOutcome, StepKind
from tracker.core.waiting import Pending, PendingActivity, PendingStep, PendingTask
from tracker.store.reconcile import OpenStep
from tracker.temporal.failures import failure_from_proto
from tracker.temporal.history.reading import moment

_UNDER_WAY = (
    PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
    PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED,
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED,
)


def pending_of(
    described: DescribeWorkflowExecutionResponse, steps: Sequence[OpenStep], policy: PayloadPolicy
) -> Pending:
    """What a run waits for, without what pollers and workers know.

    Args:
        steps: Its open steps in the tables, which know names and when timers fire.
        policy: Whether error messages may be told.
    """
    pause = described.workflow_extended_info.pause_info
    by_id = _activities(steps)
    return Pending(
        paused_at=moment(pause.paused_time) if pause.HasField("paused_time") else None,
        task=_task(described),
        activities=[
            _activity(info, by_id.get(info.activity_id), described, policy)
            for info in described.pending_activities
        ],
        steps=[
            *(
                PendingStep(
                    kind=StepKind.CHILD_WORKFLOW,
                    step=child.workflow_type_name,
                    workflow_id=child.workflow_id,
                )
                for child in described.pending_children
            ),
            *(
                PendingStep(kind=StepKind.NEXUS_OPERATION, step=operation.operation)
                for operation in described.pending_nexus_operations
            ),
            *(
                PendingStep(
                    kind=step.kind, step=step.name, until=(step.detail or {}).get("fires_at")
                )
                for step in steps
                if step.kind == StepKind.TIMER
            ),
        ],
    )


def ended_attempts(
    namespace: str,
    described: DescribeWorkflowExecutionResponse,
    steps: Sequence[OpenStep],
    policy: PayloadPolicy,
) -> Iterator[AttemptEnded]:
    """Attempts that are over for the server while nobody told their end: timed out, or lost."""
    by_id = _activities(steps)
    workflow_type = described.workflow_execution_info.type.name
    for info in described.pending_activities:
        step = by_id.get(info.activity_id)
        if step is None:
            continue
        identity = StepIdentity(
            namespace=namespace,
            run_key=step.run_key,
            kind=StepKind.ACTIVITY,
            step_key=step.step_key,
            name=step.name,
        )
        keep_text = policy.handling(workflow_type, step.name).keeps_text
        for number, started_at in step.running:
            if _is_over(number, started_at, info):
                attempt = AttemptIdentity(step=identity, number=number, started_at=started_at)
                yield _ended(attempt, info, keep_text)


def _is_over(number: int, started_at: datetime, info: PendingActivityInfo) -> bool:
    """By the server's clock while an attempt is under way there, for a reset restarts the numbers;
    else by the number: Temporal tells no start then."""
    if info.state in _UNDER_WAY:
        return started_at < moment(info.last_started_time)
    return number < info.attempt


def _ended(attempt: AttemptIdentity, info: PendingActivityInfo, keep_text: bool) -> AttemptEnded:
    is_latest = info.state not in _UNDER_WAY and attempt.number == info.attempt - 1
    if not (is_latest and info.last_failure.HasField("timeout_failure_info")):
        finished_at = moment(info.last_started_time) if info.state in _UNDER_WAY else _end(info)
        return AttemptEnded(attempt=attempt, outcome=AttemptOutcome.LOST, finished_at=finished_at)
    return AttemptEnded(
        attempt=attempt,
        outcome=AttemptOutcome.TIMED_OUT,
        finished_at=_end(info),
        next_retry_at=_next(info),
        error=failure_from_proto(info.last_failure, keep_text),
    )


def _end(info: PendingActivityInfo) -> datetime:
    """When the server gave up on the latest attempt."""
    if info.HasField("last_attempt_complete_time"):
        return moment(info.last_attempt_complete_time)
    return moment(info.scheduled_time)


def _task(described: DescribeWorkflowExecutionResponse) -> PendingTask | None:
    if not described.HasField("pending_workflow_task"):
        return None
    task = described.pending_workflow_task
    return PendingTask(
        attempt=task.attempt,
        is_started=task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_STARTED,
        scheduled_at=moment(task.original_scheduled_time),
        task_queue=described.workflow_execution_info.task_queue,
    )


def _activity(
    info: PendingActivityInfo,
    step: OpenStep | None,
    described: DescribeWorkflowExecutionResponse,
    policy: PayloadPolicy,
) -> PendingActivity:
    name = info.activity_type.name if step is None else step.name
    handling = policy.handling(described.workflow_execution_info.type.name, name)
    error = None
    if info.HasField("last_failure"):
        error = failure_from_proto(info.last_failure, handling.keeps_text)
    return PendingActivity(
        step=name,
        attempt=info.attempt,
        is_started=info.state in _UNDER_WAY,
        is_paused=info.paused,
        started_at=moment(info.last_started_time) if info.HasField("last_started_time") else None,
        next_at=_next(info),
        worker=info.last_worker_identity or None,
        error=None if error is None else error.message or error.type,
        task_queue=None if step is None else step.task_queue,
    )


def _next(info: PendingActivityInfo) -> datetime | None:
    if not info.HasField("next_attempt_schedule_time"):
        return None
    return moment(info.next_attempt_schedule_time)


def _activities(steps: Sequence[OpenStep]) -> dict[str, OpenStep]:
    """Open activities by activity id, which is unique among them."""
    return {
        step.step_key.rpartition("@")[0]: step for step in steps if step.kind == StepKind.ACTIVITY
    }
