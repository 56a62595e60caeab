"""Runs that nobody's Temporal drives: their owner reports what they do, and is believed.

Pure: from what is on record and a report to tracker events. An owner's word counts as history's
does for a Temporal run, in the order in which reports arrive; a run that has ended stays so until
its owner says explicitly that it runs again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from tracker.core.events import (
    AttemptEnded,
    AttemptIdentity,
    AttemptStarted,
    ExternalRun,
    ExternalRunReported,
    Failure,
    StepEvent,
    StepIdentity,
    StepProgressed,
    StepScheduled,
)
from tracker.core.payloads import StoredPayload
from tracker.core.status import (
    CLOSED_RUN_STATUSES,
    AttemptOutcome,
    RunStatus,
    StepKind,
    StepStatus,
    micros,
    position_of,
)
from tracker.errors import Conflict, InvalidRequest

REPORTABLE = frozenset(
    {
        RunStatus.ACCEPTED,
        RunStatus.RUNNING,
        RunStatus.COMPLETED,
        RunStatus.FAILED,
        RunStatus.CANCELED,
    }
)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownExternalRun:
    """What is on record of a run."""

    status: RunStatus
    status_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What an owner says of a run; what is None is not spoken of.

    Attributes:
        status: None: as it was; of a run that is not on record, accepted.
        finished_at: Of an end; None: when it is reported.
    """

    run: ExternalRun
    status: RunStatus | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    metadata: Mapping[str, Any] | None = None
    input: StoredPayload | None = None
    output: StoredPayload | None = None
    error: Failure | None = None


def reopens(known: KnownExternalRun | None, report: RunReport) -> bool:
    """Whether a run that has ended runs again by this report."""
    ended = known is not None and known.status in CLOSED_RUN_STATUSES
    return ended and report.status is RunStatus.RUNNING


def run_event(
    known: KnownExternalRun | None, report: RunReport, at: datetime
) -> ExternalRunReported:
    """The event of a report.

    Args:
        at: By the database's clock.

    Raises:
        Conflict: The run has ended and would end otherwise, or has begun and would be accepted.
        InvalidRequest: A result without an end.
    """
    status = report.status or (RunStatus.ACCEPTED if known is None else known.status)
    if known is not None:
        _check_move(report.run.id, known.status, status)
    if report.output is not None and status is not RunStatus.COMPLETED:
        raise InvalidRequest(
            f"an output goes with status {RunStatus.COMPLETED}, this run is {status}",
            field="output",
        )
    if report.error is not None and status not in (RunStatus.FAILED, RunStatus.CANCELED):
        raise InvalidRequest(
            f"an error goes with status {RunStatus.FAILED}, this run is {status}", field="error"
        )
    before = -1 if known is None else position_of(known.status_version)
    unchanged = known is not None and report.status in (None, known.status)
    return ExternalRunReported(
        run=report.run,
        position=max(micros(at), before + 1),
        at=at,
        status=status,
        states=not unchanged or report.output is not None or report.error is not None,
        started_at=report.started_at,
        finished_at=report.finished_at,
        metadata=report.metadata,
        input=report.input,
        output=report.output,
        error=report.error,
    )


def _check_move(run_id: UUID, known: RunStatus, status: RunStatus) -> None:
    if known is status or (known is RunStatus.ACCEPTED):
        return
    if known is RunStatus.RUNNING and status is not RunStatus.ACCEPTED:
        return
    if known in CLOSED_RUN_STATUSES and status is RunStatus.RUNNING:
        return
    raise Conflict(
        f"run {run_id} is {known} and cannot become {status}; a run that has ended is reopened by "
        f"status {RunStatus.RUNNING}",
        run_id=str(run_id),
        status=known,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownExternalStep:
    """What is on record of a step."""

    status: StepStatus
    attempts: int
    last_started_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What an owner says of a step; the step is named by its index and name.

    Attributes:
        status: `scheduled` with `next_retry_at` after a failed try that will be repeated.
        attempt: Number of the try; None: the one under way.
        state: Anything the owner wants shown of a try that failed.
    """

    run_key: UUID
    namespace: str
    index: int
    name: str
    status: StepStatus
    started_at: datetime | None = None
    finished_at: datetime | None = None
    next_retry_at: datetime | None = None
    attempt: int | None = None
    max_attempts: int | None = None
    output: StoredPayload | None = None
    error: Failure | None = None
    state: str | None = None

    @property
    def identity(self) -> StepIdentity:
        """What names the step."""
        return StepIdentity(
            namespace=self.namespace,
            run_key=self.run_key,
            kind=StepKind.EXTERNAL,
            step_key=f"{self.index}:{self.name}",
            name=self.name,
        )


Events = list[StepEvent | AttemptStarted | AttemptEnded]


def step_events(known: KnownExternalStep | None, report: StepReport, at: datetime) -> Events:
    """The events of a report.

    Raises:
        InvalidRequest: An output without an end.
    """
    if report.output is not None and report.status is not StepStatus.COMPLETED:
        raise InvalidRequest(
            f"an output goes with status {StepStatus.COMPLETED}, got {report.status}",
            field="output",
        )
    tells_more = known is None or report.max_attempts is not None
    events: Events = [_scheduled(report, at)] if tells_more else []
    if report.status is StepStatus.SCHEDULED and report.next_retry_at is None:
        return events
    if report.status is StepStatus.STARTED:
        started = _start(known, report, at)
        return events if started is None else [*events, started]
    started = None if _is_under_way(known) else _start(known, report, at)
    if _is_repeated(known, report):
        started = None
    attempt = _under_way(known, report) if started is None else started.attempt
    if started is not None:
        events.append(started)
    events.append(_end(attempt, report, at))
    if report.state is not None:
        events.append(StepProgressed(step=report.identity, at=at, progress=report.state))
    return events


def _scheduled(report: StepReport, at: datetime) -> StepScheduled:
    return StepScheduled(
        step=report.identity,
        type=report.name,
        scheduled_at=min(at, report.started_at or at),
        max_attempts=report.max_attempts,
        detail={"index": report.index},
    )


def _is_under_way(known: KnownExternalStep | None) -> bool:
    return known is not None and known.status is StepStatus.STARTED


def _is_repeated(known: KnownExternalStep | None, report: StepReport) -> bool:
    """Whether the same end is told again: no new try has begun since."""
    if known is None or known.last_started_at is None:
        return False
    told = StepStatus.SCHEDULED if report.next_retry_at is not None else report.status
    later = report.attempt is not None and report.attempt > known.attempts
    return known.status is told and not later


def _start(
    known: KnownExternalStep | None, report: StepReport, at: datetime
) -> AttemptStarted | None:
    """A try begins; None where it is on record."""
    started_at, number = report.started_at or at, report.attempt or 1
    if known is not None and known.last_started_at is not None:
        same = report.started_at is not None and report.started_at <= known.last_started_at
        if _is_under_way(known) or same:
            return None
        started_at = max(started_at, known.last_started_at + _TICK)
        number = report.attempt or known.attempts + 1
    attempt = AttemptIdentity(step=report.identity, number=number, started_at=started_at)
    return AttemptStarted(attempt=attempt, type=report.name, max_attempts=report.max_attempts)


def _under_way(known: KnownExternalStep | None, report: StepReport) -> AttemptIdentity:
    assert known is not None
    assert known.last_started_at is not None
    return AttemptIdentity(
        step=report.identity,
        # Some count each call's tries from one.
        number=max(report.attempt or 1, known.attempts),
        started_at=known.last_started_at,
    )


_OUTCOMES = {
    StepStatus.COMPLETED: AttemptOutcome.COMPLETED,
    StepStatus.FAILED: AttemptOutcome.FAILED,
    StepStatus.CANCELED: AttemptOutcome.CANCELED,
    StepStatus.TIMED_OUT: AttemptOutcome.TIMED_OUT,
    StepStatus.SCHEDULED: AttemptOutcome.FAILED,
}


def _end(attempt: AttemptIdentity, report: StepReport, at: datetime) -> AttemptEnded:
    retried = report.status is StepStatus.SCHEDULED
    finished_at = report.finished_at or at
    return AttemptEnded(
        attempt=attempt,
        outcome=_OUTCOMES[report.status],
        finished_at=max(finished_at, attempt.started_at),
        closes_step=None if retried else report.status,
        next_retry_at=report.next_retry_at if retried else None,
        output=report.output,
        error=report.error,
    )
