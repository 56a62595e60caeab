"""Temporal's side of a signal: one bounded try, and what its answer means.

Temporal can bind a signal to a run, but not to a chain. So it is always sent to one exact run: the
one on record, and when that has ended the latest of its workflow id, if that is of the same chain.
What a reader gets wrong: a run that has ended still answers "done" to a request id that it took
while it was open. That is how a signal whose answer was lost is told from one that came too late.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from google.protobuf.message import DecodeError
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from tracker.core.ids import workflow_lane
from tracker.errors import TemporalUnavailable
from tracker.outbox.signaling import Delivered, SignalOutcome
from tracker.outbox.starting import Poison, Refused, Retry
from tracker.store.outbox import LeasedSignal
from tracker.temporal.executions import Execution, describe
from tracker.temporal.rpc import bounded_call, is_too_large, is_unknown_run, unavailable

HOPS = 5
"""Runs of a chain that one try follows while they end under its hands."""


async def send_signal(client: Client, signal: LeasedSignal, *, seconds: float) -> SignalOutcome:
    """Send a signal to the current run of its chain.

    Args:
        seconds: What the try may take.
    """
    try:
        request = SignalWorkflowExecutionRequest.FromString(signal.request)
    except DecodeError as error:
        return Poison(f"the call cannot be read: {error}")
    try:
        async with bounded_call(seconds):
            return await _Sending(client, signal, request, seconds).send()
    except TemporalUnavailable as error:
        return Retry(error)
    except RPCError as error:
        return _refusal(error) or Retry(unavailable(f"{error.status.name}: {error.message}"))


class _Sending:
    """One try."""

    def __init__(
        self,
        client: Client,
        signal: LeasedSignal,
        request: SignalWorkflowExecutionRequest,
        seconds: float,
    ) -> None:
        self._client = client
        self._signal = signal
        self._request = request
        self._seconds = seconds

    async def send(self) -> SignalOutcome:
        signal, workflow_id = self._signal, self._request.workflow_execution.workflow_id
        lane = workflow_lane(self._request.namespace, workflow_id)
        if signal.run_id != lane and not signal.on_record:
            return self._refused("NotFound", "is not on record any more")
        if signal.run_id != lane and signal.run_key is None:
            return self._refused("NeverStarted", "never started")
        sent_to = "" if signal.run_key is None else str(signal.run_key)
        for _ in range(HOPS):
            if await self._reaches(sent_to):
                return Delivered()
            latest = await describe(self._client, workflow_id, seconds=self._seconds)
            if latest is None:
                return self._refused("NotFound", "is not known to Temporal")
            if not self._is_meant(latest):
                return self._refused("RunClosed", "has ended, and another has its workflow id")
            if not latest.is_open and str(latest.run_key) == sent_to:
                return self._refused("RunClosed", f"has ended as {_status(latest)}")
            sent_to = str(latest.run_key)
        return Retry(unavailable("the run continues as new faster than it can be signaled"))

    async def _reaches(self, run_id: str) -> bool:
        """Whether a run takes it now, or took it before it ended."""
        self._request.workflow_execution.run_id = run_id
        try:
            await self._client.workflow_service.signal_workflow_execution(
                self._request, retry=False, timeout=timedelta(seconds=self._seconds)
            )
        except RPCError as error:
            if is_unknown_run(error):
                return False
            raise
        return True

    def _is_meant(self, latest: Execution) -> bool:
        """Whether it is of the chain that is meant, where one is: another may have taken over the
        workflow id."""
        first: UUID | None = self._signal.first_run_key or self._signal.run_key
        return first is None or latest.first_run_key == first

    def _refused(self, code: str, what: str) -> Refused:
        workflow_id = self._request.workflow_execution.workflow_id
        run = f"run {self._signal.run_id}, workflow id {workflow_id!r},"
        if not self._signal.on_record:
            run = f"the run of workflow id {workflow_id!r}"
        return Refused(
            code, f"signal {self._request.signal_name!r} was not delivered: {run} {what}"
        )


def _status(execution: Execution) -> str:
    try:
        name = WorkflowExecutionStatus.Name(execution.info.status)
    except ValueError:  # Newer than the SDK.
        return f"status {execution.info.status}"
    return name.removeprefix("WORKFLOW_EXECUTION_STATUS_").lower()


def _refusal(error: RPCError) -> Refused | None:
    """The definite refusals; everything else may pass."""
    if is_too_large(error):
        return Refused("PayloadTooLarge", error.message)
    code = _REFUSALS.get(error.status)
    return None if code is None else Refused(code, error.message)


_REFUSALS = {
    RPCStatusCode.INVALID_ARGUMENT: "InvalidArgument",
    RPCStatusCode.NOT_FOUND: "NotFound",
}
