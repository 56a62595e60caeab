"""Records what a worker does with activities: each attempt's start, heartbeats and end.

Always calls `next`, returns its result and raises its error unchanged, with one exception: where
the step's retry delays are ours to set (linear growth, jitter), a retryable error leaves with
`next_retry_delay`. An attempt's end waits for its flush, shortly; a cancellation that arrives in
that wait must not undo a result that is already there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from temporalio import activity
from temporalio.activity import (
    _CompleteAsyncError,  # pyright: ignore[reportPrivateUsage]  # No public name tells it apart.
)
from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    ExecuteActivityInput,
)

from tracker.activity import (
    AttemptScope,
    InProcess,
    ProcessResult,
    attempt_scope,
    retry_delay,
)
from tracker.core.headers import HEADER, Header, read_header
from tracker.core.status import AttemptOutcome
from tracker.log import log_fields
from tracker.temporal.attempts import AttemptRecord
from tracker.temporal.scope import current_scope


class TrackerActivityInbound(ActivityInboundInterceptor):
    """Outermost activity interceptor of a tracked worker."""

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        """Put ourselves around heartbeats too."""
        self._outbound = _HeartbeatRecorder(outbound)
        super().init(self._outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Run the activity, recording the attempt around it."""
        header = _header(input.headers)
        info = activity.info()
        record = AttemptRecord.begin(current_scope.get(), info, header, input)
        self._outbound.record = record
        with attempt_scope(header) as scope, log_fields(**_fields(info, header)):
            return await self._run(input, header, scope, record)

    async def _run(
        self,
        input: ExecuteActivityInput,
        header: Header,
        scope: AttemptScope,
        record: AttemptRecord | None,
    ) -> Any:
        in_process = isinstance(input.executor, ProcessPoolExecutor)
        if in_process:
            # A process pool copies no context: header and annotations travel with the function.
            input.fn = InProcess(input.fn, header)
        try:
            result = await self.next.execute_activity(input)
        except _CompleteAsyncError:
            raise  # The attempt goes on elsewhere; history will tell how it ends.
        except (Exception, asyncio.CancelledError) as error:
            _take_annotations(error, scope)
            outgoing = _with_own_delay(error, header)
            if record is not None:
                await record.end(_outcome(error), scope.annotations(), error=outgoing)
            if outgoing is error:
                raise
            raise outgoing from outgoing.__cause__
        if in_process and isinstance(result, ProcessResult):
            scope.annotate(result.annotations)
            result = result.value
        if record is not None:
            await record.end(AttemptOutcome.COMPLETED, scope.annotations(), result=result)
        return result


class _HeartbeatRecorder(ActivityOutboundInterceptor):
    """Sends heartbeats on, then notes the latest."""

    def __init__(self, next: ActivityOutboundInterceptor) -> None:
        super().__init__(next)
        self.record: AttemptRecord | None = None

    def heartbeat(self, *details: Any) -> None:
        self.next.heartbeat(*details)
        if self.record is not None:
            self.record.progressed(details)


def _header(headers: Mapping[str, Payload]) -> Header:
    payload = headers.get(HEADER)
    return read_header(payload.data if payload is not None else None)


def _fields(info: activity.Info, header: Header) -> dict[str, Any]:
    return {
        "ref_type": header.ref.ref_type if header.ref else None,
        "ref_id": header.ref.ref_id if header.ref else None,
        "run_id": str(header.run_id) if header.run_id else None,
        "temporal_run_id": info.workflow_run_id,
        "step": header.step or info.activity_type,
        "attempt": info.attempt,
    }


def _outcome(error: BaseException) -> AttemptOutcome:
    if not (isinstance(error, asyncio.CancelledError) or is_cancelled_exception(error)):
        return AttemptOutcome.FAILED
    details = activity.cancellation_details()
    if details is None:
        # Nobody asked for it: it broke off by itself, which Temporal takes for a failure.
        return AttemptOutcome.FAILED
    return AttemptOutcome.TIMED_OUT if details.timed_out else AttemptOutcome.CANCELED


def _take_annotations(error: BaseException, scope: AttemptScope) -> None:
    carried = error.__dict__.get("flowtrail_annotations")
    if isinstance(carried, dict):
        scope.annotate(cast("dict[str, Any]", carried))


def _with_own_delay(error: BaseException, header: Header) -> BaseException:
    """The error with the delay that the step's own backoff asks for, if it asks for one."""
    if header.retry is None or not isinstance(error, Exception) or is_cancelled_exception(error):
        return error
    known = error if isinstance(error, ApplicationError) else None
    if known is not None and (known.non_retryable or known.next_retry_delay is not None):
        return error
    delay = retry_delay(activity.info(), header.retry, datetime.now(UTC))
    if delay is None:
        return error
    delayed = _delayed(error, known, delay).with_traceback(error.__traceback__)
    delayed.__cause__ = _cause(error)
    return delayed


def _delayed(
    error: Exception, known: ApplicationError | None, delay: timedelta
) -> ApplicationError:
    # As Temporal's default failure converter would express the error, plus the delay.
    if known is None:
        return ApplicationError(str(error), type=type(error).__name__, next_retry_delay=delay)
    return ApplicationError(
        known.message,
        *known.details,
        type=known.type,
        next_retry_delay=delay,
        category=known.category,
    )


def _cause(error: Exception) -> BaseException | None:
    # What Temporal's default failure converter tells as the error's cause.
    if isinstance(error, FailureError) and not error.__suppress_context__:
        return error.__cause__ or error.__context__
    return error.__cause__
