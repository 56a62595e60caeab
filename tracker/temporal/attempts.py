"""One attempt of an activity on its way through a worker: start, heartbeats, end, as events.

Times are the server's: an end is the server's start time plus a monotonic duration, so a worker's
wall clock never enters a row. Nothing here raises into the activity.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ExecuteActivityInput

from tracker.activity import retry_delay, split_heartbeat
from tracker.core.events import (
    AttemptEnded,
    AttemptIdentity,
    AttemptStarted,
    StepIdentity,
    StepProgressed,
)
from tracker.core.headers import Header
from tracker.core.ids import activity_key, local_activity_key
from tracker.core.jsonb import fits_jsonb
from tracker.core.payloads import Handling, Treatment
from tracker.core.status import AttemptOutcome, StepKind, StepStatus
from tracker.temporal.deadlines import Expiry, expiry
from tracker.temporal.failures import failure_from_exception
from tracker.temporal.scope import WorkerScope
from tracker.temporal.tracing import trace_id

PROGRESS_INTERVAL = 1.0
"""Seconds between two recorded heartbeats of one attempt; the last one is always recorded."""

PROGRESS_LIMIT = 16 * 1024
"""Bytes of recorded heartbeat details."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class AttemptRecord:
    """An attempt that is being recorded.

    Attributes:
        began: Monotonic clock at the attempt's begin, in seconds.
    """

    scope: WorkerScope
    info: activity.Info
    header: Header
    attempt: AttemptIdentity
    handling: Handling
    began: float
    _last_heartbeat: datetime | None = None
    _progress: Any = None
    _progress_sent: float = 0.0
    _progress_waits: bool = False
    _alarm: asyncio.TimerHandle | None = None

    @classmethod
    def begin(
        cls,
        scope: WorkerScope | None,
        info: activity.Info,
        header: Header,
        input: ExecuteActivityInput,
    ) -> AttemptRecord | None:
        """Record the start.

        Returns:
            None where the attempt is not tracked: plugin disabled, type excluded, an activity
            without a workflow, or a local one whose workflow ran without the plugin.
        """
        if scope is None or not scope.records(info.workflow_type):
            return None
        try:
            record = cls._of(scope, info, header)
            if record is not None:
                record._started(input)
        except Exception:
            scope.failed("start of an attempt")
            return None
        return record

    @classmethod
    def _of(cls, scope: WorkerScope, info: activity.Info, header: Header) -> AttemptRecord | None:
        if info.workflow_run_id is None or (info.is_local and header.ordinal is None):
            return None
        began = time.monotonic()
        name = header.step or info.activity_type
        local = info.is_local and header.ordinal is not None
        step = StepIdentity(
            namespace=info.namespace,
            run_key=UUID(info.workflow_run_id),
            kind=StepKind.LOCAL_ACTIVITY if local else StepKind.ACTIVITY,
            step_key=local_activity_key(header.ordinal or 0)
            if local
            else activity_key(info.activity_id, info.scheduled_time),
            name=name,
        )
        started_at = _local_start(scope, header, began) if local else info.started_time
        if not local:
            scope.clock.observe(info.started_time, began)
        attempt = AttemptIdentity(
            step=step, number=info.attempt, started_at=started_at or info.started_time
        )
        handling = scope.policy.handling(
            info.workflow_type or "", name, step.kind, info.activity_type
        )
        return cls(scope, info, header, attempt, handling, began)

    def _started(self, input: ExecuteActivityInput) -> None:
        info, policy = self.info, self.info.retry_policy
        self.scope.record(
            AttemptStarted(
                attempt=self.attempt,
                type=info.activity_type,
                scheduled_at=self._asked_at,
                attempt_scheduled_at=None if info.is_local else info.current_attempt_scheduled_time,
                task_queue=info.task_queue,
                max_attempts=policy.maximum_attempts if policy else None,
                input=self.scope.stored_input(input.args, self.handling),
                worker_identity=self.scope.worker_identity,
                build_id=self.scope.build_id,
                trace_id=trace_id(input.headers),
            )
        )

    def progressed(self, details: Sequence[Any]) -> None:
        """Note a heartbeat, on the worker's loop; recorded at most once a `PROGRESS_INTERVAL`."""
        try:
            self._last_heartbeat = self._now()
            self._progress, self._progress_waits = list(details), True
            pause = self._progress_sent + PROGRESS_INTERVAL - time.monotonic()
            if pause <= 0:
                self._send_progress()
            elif self._alarm is None:
                self._alarm = asyncio.get_running_loop().call_later(pause, self._send_late)
        except Exception:
            self.scope.failed("heartbeat")

    def _send_late(self) -> None:
        # The last of several may be followed by silence for hours.
        self._alarm = None
        try:
            if self._progress_waits:
                self._send_progress()
        except Exception:
            self.scope.failed("heartbeat")

    async def end(
        self,
        outcome: AttemptOutcome,
        annotations: Mapping[str, Any],
        *,
        result: Any = None,
        error: BaseException | None = None,
    ) -> None:
        """Record the end and give its flush a moment."""
        try:
            self._ended(outcome, annotations, result, error)
        except Exception:
            self.scope.failed("end of an attempt")
            return
        recorder = self.scope.recorder
        if recorder is None:
            return
        try:
            await recorder.settle(self._budget())
        except asyncio.CancelledError:
            # The work is done: its result goes out at once, canceled or not.
            return
        except Exception:
            self.scope.failed("wait for a flush")

    def _ended(
        self,
        outcome: AttemptOutcome,
        annotations: Mapping[str, Any],
        result: Any,
        error: BaseException | None,
    ) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if self._progress_waits:
            self._send_progress()
        expired, kept = self._expired(), _kept(annotations, self.handling)
        if expired is not None:
            self.scope.record(self._timed_out(expired, kept))
            return
        finished_at = self._now()
        output = self.scope.stored_output(result, self.handling) if error is None else None
        keep_text = self.handling.keeps_text
        if error is None and (error := self.scope.refusal(result, output)) is not None:
            outcome = AttemptOutcome.FAILED
        delay = self._next_delay(outcome, error, finished_at)
        closes = self._closes(outcome, delay)
        # A cancellation that was asked for is no failure, and history tells none.
        told = None if closes is StepStatus.CANCELED else error
        self.scope.record(
            AttemptEnded(
                attempt=self.attempt,
                outcome=outcome,
                finished_at=finished_at,
                closes_step=closes,
                next_retry_at=None if delay is None else finished_at + delay,
                output=output,
                error=None if told is None else failure_from_exception(told, keep_text),
                annotations=kept,
            )
        )

    def _expired(self) -> Expiry | None:
        return expiry(
            self.info,
            asked_at=self._asked_at,
            started_at=self.attempt.started_at,
            last_heartbeat=self._last_heartbeat,
            now=self._now(),
        )

    def _timed_out(self, expired: Expiry, annotations: Mapping[str, Any] | None) -> AttemptEnded:
        """The worker was late: the server has given up the attempt, whatever came of it."""
        delay = retry_delay(self.info, None, expired.at)
        return AttemptEnded(
            attempt=self.attempt,
            outcome=AttemptOutcome.TIMED_OUT,
            finished_at=expired.at,
            closes_step=StepStatus.TIMED_OUT if delay is None else None,
            next_retry_at=None if delay is None else expired.at + delay,
            error=expired.failure(keep_text=self.handling.keeps_text),
            annotations=annotations,
        )

    def _next_delay(
        self, outcome: AttemptOutcome, error: BaseException | None, now: datetime
    ) -> timedelta | None:
        if outcome is not AttemptOutcome.FAILED or error is None:
            return None
        if _forbids_retry(error, self.info):
            return None
        delay = retry_delay(self.info, self.header.retry, now)
        own = error.next_retry_delay if isinstance(error, ApplicationError) else None
        return delay if delay is None or own is None else own

    def _closes(self, outcome: AttemptOutcome, delay: timedelta | None) -> StepStatus | None:
        """What the end means for the step, as far as a worker can know; history may overrule."""
        if outcome is AttemptOutcome.COMPLETED:
            return StepStatus.COMPLETED
        if outcome is AttemptOutcome.FAILED:
            return StepStatus.FAILED if delay is None else None
        details = activity.cancellation_details()
        if outcome is not AttemptOutcome.CANCELED or details is None:
            return None
        # Else it goes on at another worker, or later.
        is_final = not (details.worker_shutdown or details.paused or details.reset)
        return StepStatus.CANCELED if is_final else None

    def _send_progress(self) -> None:
        self._progress_waits, self._progress_sent = False, time.monotonic()
        shown = _shown(self._progress)
        encoded = json.dumps(shown, default=str).encode()
        if not self.handling.keeps_text or len(encoded) > PROGRESS_LIMIT or not fits_jsonb(encoded):
            shown = None
        else:
            shown = json.loads(encoded)
        self.scope.record(StepProgressed(step=self.attempt.step, at=self._now(), progress=shown))

    @property
    def _asked_at(self) -> datetime:
        asked_at = _asked_at(self.header) if self.info.is_local else None
        return asked_at or self.info.scheduled_time

    def _now(self) -> datetime:
        return self.attempt.started_at + timedelta(seconds=time.monotonic() - self.began)

    def _budget(self) -> float:
        """A quarter of what remains of the attempt's timeouts, in seconds."""
        used = time.monotonic() - self.began
        limits = [float("inf")]
        if self.info.start_to_close_timeout:
            limits.append(self.info.start_to_close_timeout.total_seconds() - used)
        if self.info.heartbeat_timeout:
            limits.append(self.info.heartbeat_timeout.total_seconds())
        if self.info.schedule_to_close_timeout:
            waited = (self.attempt.started_at - self._asked_at).total_seconds()
            limits.append(self.info.schedule_to_close_timeout.total_seconds() - waited - used)
        return min(limits) / 4


def _shown(heartbeat: Sequence[Any]) -> Any:
    """What `tracker.activity.progress` told; for a plain heartbeat, its details."""
    details, figures = split_heartbeat(heartbeat)
    if figures is not None:
        return figures
    return details[0] if len(details) == 1 else list(details)


def _asked_at(header: Header) -> datetime | None:
    return None if header.asked_at is None else _EPOCH + timedelta(microseconds=header.asked_at)


def _local_start(scope: WorkerScope, header: Header, began: float) -> datetime | None:
    """Start of a local activity in server time; what Temporal says is its worker's wall clock."""
    started_at, asked_at = scope.clock.at(began), _asked_at(header)
    if started_at is None or asked_at is None:
        return asked_at
    return max(started_at, asked_at)


def _forbids_retry(error: BaseException, info: activity.Info) -> bool:
    if isinstance(error, ApplicationError):
        if error.non_retryable:
            return True
        name = error.type
    else:
        name = type(error).__name__
    policy = info.retry_policy
    return policy is not None and name in (policy.non_retryable_error_types or ())


def _kept(annotations: Mapping[str, Any], handling: Handling) -> Mapping[str, Any] | None:
    if not annotations or handling.treatment is not Treatment.FULL:
        return None
    return annotations if fits_jsonb(json.dumps(dict(annotations)).encode()) else None
