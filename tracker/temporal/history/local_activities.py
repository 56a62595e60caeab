"""Local activities as steps, from their markers; see `rounds` for what a marker is.

What a reader would get wrong: a marker tells the end of its round's last attempt, not when that
began. Its start is stated as the end, "at the latest then", so that what the worker told survives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure as FailureProto
from temporalio.api.history.v1 import HistoryEvent

from tracker.core.events import (
    AttemptEnded,
    AttemptIdentity,
    AttemptStarted,
    StepClosed,
    StepIdentity,
)
from tracker.core.ids import local_activity_key
from tracker.core.status import AttemptOutcome, StepKind, StepStatus
from tracker.temporal.history import other_sdks
from tracker.temporal.history.closes import closed_by_run
from tracker.temporal.history.reading import parsed
from tracker.temporal.history.rounds import LocalCall, Round, local_calls
from tracker.temporal.history.state import OpenStep, Projection, own_json

MARKER = "core_local_activity"
"""Name of the marker in the SDKs that are built on Temporal's Rust core."""


def tell_local_activities(projection: Projection, history: Sequence[HistoryEvent]) -> None:
    """Tell all local activities; possible only at the end, when all markers are known."""
    rounds = projection.rounds
    is_closed = projection.closed is not None
    calls = local_calls(rounds, history, run_is_closed=is_closed) if rounds else []
    calls += other_sdks.calls_of(projection.other_rounds)
    retried = _first_retried(calls)
    for call in calls:
        _tell(projection, call, retried)


def _first_retried(calls: Sequence[LocalCall]) -> dict[int, int]:
    """By workflow task, the event id of its first marker of a round of several attempts: workflow
    time counts the last of them alone, so that from there on it lags behind."""
    first: dict[int, int] = {}
    for call in calls:
        for before, round_ in zip([None, *call.rounds], call.rounds, strict=False):
            if round_.attempt > (1 if before is None else before.attempt + 1):
                known = first.get(round_.task_id, round_.event_id)
                first[round_.task_id] = min(known, round_.event_id)
    return first


def _tell(projection: Projection, call: LocalCall, retried: Mapping[int, int]) -> None:
    type_, key = call.rounds[0].activity_type, local_activity_key(call.ordinal)
    name = call.rounds[0].name or type_
    step = projection.step_identity(StepKind.LOCAL_ACTIVITY, key, name)
    last = call.rounds[-1]
    for round_ in call.rounds:
        if round_.abandoned:
            _tell_abandoned(projection, step, round_)
        else:
            lags = retried.get(round_.task_id, round_.event_id + 1) <= round_.event_id
            _tell_attempt(projection, step, round_, lags)
    if projection.closed is not None and last.backoff is not None:
        opened = OpenStep(step, type_, projection.handling_of(step, type_), last.attempt)
        projection.events.append(closed_by_run(opened, projection.closed))


def _tell_abandoned(projection: Projection, step: StepIdentity, round_: Round) -> None:
    projection.events.append(
        StepClosed(
            step=step,
            type=round_.activity_type,
            status=StepStatus.CANCELED,
            finished_at=round_.recorded_at,
            position=round_.attempt,
            from_history=True,
        )
    )


def _tell_attempt(projection: Projection, step: StepIdentity, round_: Round, lags: bool) -> None:
    # Where workflow time lags, the marker's own time is at least never early.
    ended_at = None if lags else round_.completed_at
    finished_at = ended_at or round_.recorded_at
    attempt = AttemptIdentity(step=step, number=round_.attempt, started_at=finished_at)
    handling, outcome = projection.handling_of(step, round_.activity_type), _outcome(round_.failure)
    failure = round_.failure if outcome is not AttemptOutcome.CANCELED else None
    given, result = round_.details.get("input"), round_.details.get("result")
    projection.events.append(
        AttemptStarted(
            attempt=attempt,
            type=round_.activity_type,
            scheduled_at=finished_at,
            task_queue=projection.run.task_queue,
            input=None if given is None else projection.stored(given, handling),
            worker_identity=round_.worker_identity,
            from_history=True,
        )
    )
    projection.events.append(
        AttemptEnded(
            attempt=attempt,
            outcome=outcome,
            finished_at=finished_at,
            closes_step=_CLOSES[outcome] if round_.backoff is None else None,
            next_retry_at=round_.recorded_at + round_.backoff if round_.backoff else None,
            output=None if result is None else projection.stored_result(result, handling),
            error=None if failure is None else projection.failure(failure, handling),
            from_history=True,
        )
    )


def _outcome(failure: FailureProto | None) -> AttemptOutcome:
    if failure is None:
        return AttemptOutcome.COMPLETED
    inner = failure.cause if failure.HasField("activity_failure_info") else failure
    if inner.HasField("canceled_failure_info"):
        return AttemptOutcome.CANCELED
    if inner.HasField("timeout_failure_info"):
        return AttemptOutcome.TIMED_OUT
    return AttemptOutcome.FAILED


_CLOSES = {
    AttemptOutcome.COMPLETED: StepStatus.COMPLETED,
    AttemptOutcome.FAILED: StepStatus.FAILED,
    AttemptOutcome.CANCELED: StepStatus.CANCELED,
    AttemptOutcome.TIMED_OUT: StepStatus.TIMED_OUT,
}


def _marker(projection: Projection, event: HistoryEvent) -> None:
    attributes = event.marker_recorded_event_attributes
    if attributes.marker_name == other_sdks.MARKER:
        _keep(projection, projection.other_rounds, other_sdks.read_marker(projection, event))
        return
    if attributes.marker_name != MARKER or "data" not in attributes.details:
        return
    payloads = attributes.details["data"].payloads
    data = parsed(own_json(projection.clear, payloads[0])) if payloads else None
    name, worker = projection.summary(event), projection.task.worker_identity
    _keep(projection, projection.rounds, Round.read(data, event, name, worker))


def _keep(projection: Projection, rounds: list[Round], round_: Round | None) -> None:
    if round_ is None:
        return
    rounds.append(round_)
    if round_.backoff is not None:
        projection.backoffs.append((projection.task.completed_id, round_.backoff))


HANDLERS = {EventType.EVENT_TYPE_MARKER_RECORDED: _marker}
