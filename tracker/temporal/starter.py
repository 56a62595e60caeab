"""Temporal's side of the outbox: one bounded try of a start, and what its answer means; signals are
sent by `signal_sender`.

Every try sends the same request id, which gives the same run, but no longer once a newer run has
the workflow id; so only who has just accepted a start may do without looking for its run first. The
first try on record need not be the first: tables may come from a backup.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from temporalio.api.errordetails.v1 import WorkflowExecutionAlreadyStartedFailure
from temporalio.api.workflowservice.v1 import (
    RequestCancelWorkflowExecutionRequest,
    StartWorkflowExecutionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from tracker.errors import TemporalUnavailable
from tracker.outbox.signaling import SignalOutcome
from tracker.outbox.starting import Outcome, Poison, Refused, Retry, Started
from tracker.store.outbox import LeasedSignal, LeasedStart
from tracker.temporal.executions import Execution, describe, find_carrier, read_carried
from tracker.temporal.rpc import bounded_call, is_too_large, unavailable
from tracker.temporal.search_attributes import RefSearchAttributes
from tracker.temporal.signal_sender import send_signal

REACHABLE_WITHIN = 1.0
"""Seconds for Temporal to say that it is there."""

ALREADY_STARTED = "WorkflowAlreadyStarted"
"""Error type of a run whose workflow id another run holds."""


class TemporalStarter:
    """Starts accepted runs in a client's namespace and signals them; implements
    `tracker.outbox.Carrier`.

    Args:
        client: May be lazy: Temporal need not be there.
        search_attributes: Whether runs get `RefType` and `RefId` where these are registered.
        seconds: What one try may take.
    """

    def __init__(
        self, client: Client, *, search_attributes: bool = False, seconds: float = 5.0
    ) -> None:
        self._client = client
        self._attributes = RefSearchAttributes(client) if search_attributes else None
        self._seconds = seconds

    async def start(self, start: LeasedStart) -> Outcome:
        """Start a run, or find that it is started."""
        request = _read(start)
        if isinstance(request, Poison):
            return request
        try:
            async with bounded_call(self._seconds):
                return await self._start(request, start)
        except TemporalUnavailable as error:
            return Retry(error)
        except RPCError as error:
            return _refusal(error) or Retry(unavailable(f"{error.status.name}: {error.message}"))

    async def find(self, start: LeasedStart) -> Started | Retry | Poison | None:
        """Look whether an earlier try has started it."""
        request = _read(start)
        if isinstance(request, Poison):
            return request
        try:
            async with bounded_call(self._seconds):
                return await self._find(request, start)
        except TemporalUnavailable as error:
            return Retry(error)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:  # Not even the namespace.
                return None
            return Retry(unavailable(f"{error.status.name}: {error.message}"))

    async def cancel(self, start: LeasedStart, run_key: UUID) -> Retry | None:
        """Ask for the cancellation of what was started, be it a later run of its chain by now."""
        request = StartWorkflowExecutionRequest.FromString(start.request)
        cancel = RequestCancelWorkflowExecutionRequest(
            namespace=request.namespace,
            workflow_execution=WorkflowExecution(workflow_id=request.workflow_id),
            first_execution_run_id=str(run_key),
            identity=request.identity,
            request_id=f"cancel-{start.id}",
            reason="canceled while it was being started",
        )
        try:
            async with bounded_call(self._seconds):
                await self._client.workflow_service.request_cancel_workflow_execution(
                    cancel, retry=False, timeout=self._timeout
                )
        except TemporalUnavailable as error:
            return Retry(error)
        except RPCError as error:
            if error.status in _NOTHING_TO_CANCEL:
                return None
            return Retry(unavailable(f"{error.status.name}: {error.message}"))
        return None

    async def signal(self, signal: LeasedSignal) -> SignalOutcome:
        """Send a signal to the current run of its chain."""
        return await send_signal(self._client, signal, seconds=self._seconds)

    async def reachable(self) -> bool:
        """Whether Temporal is there, whatever it thinks of single calls."""
        try:
            async with asyncio.timeout(REACHABLE_WITHIN):
                return await self._client.service_client.check_health()
        except Exception:  # The SDK raises RPCError and RuntimeError alike; either means "away".
            return False

    @property
    def _timeout(self) -> timedelta:
        return timedelta(seconds=self._seconds)

    async def _start(self, request: StartWorkflowExecutionRequest, start: LeasedStart) -> Outcome:
        if not (start.is_new or _may_be_repeated(request)):
            found = await self._find(request, start)
            if found is not None:
                return found
        added = await self._add_search_attributes(request)
        try:
            return await self._call(request)
        except RPCError as error:
            if error.status is RPCStatusCode.ALREADY_EXISTS:
                return await self._already_started(request, start, error)
            if not (added and error.status is RPCStatusCode.INVALID_ARGUMENT):
                raise
        # It may be our extra attributes that it refuses; without them it must decide alone.
        self._drop_search_attributes(request)
        return await self._call(request)

    async def _call(self, request: StartWorkflowExecutionRequest) -> Outcome:
        answer = await self._client.workflow_service.start_workflow_execution(
            request, retry=False, timeout=self._timeout
        )
        return Started(UUID(answer.first_execution_run_id or answer.run_id))

    async def _find(
        self, request: StartWorkflowExecutionRequest, start: LeasedStart
    ) -> Started | None:
        carrier = await find_carrier(
            self._client,
            request.workflow_id,
            start.id,
            since=start.created_at,
            seconds=self._seconds,
        )
        return None if carrier is None else _started(carrier)

    async def _already_started(
        self, request: StartWorkflowExecutionRequest, start: LeasedStart, error: RPCError
    ) -> Outcome:
        holder = await describe(
            self._client, request.workflow_id, _holder(error), seconds=self._seconds
        )
        if holder is None:
            return Retry(unavailable("the run that holds the workflow id has just vanished"))
        if holder.carries(start.id):
            return _started(holder)
        message = (
            f"the workflow id {request.workflow_id!r} belongs to Temporal run {holder.run_key}, "
            f"which {'is open' if holder.is_open else 'has ended'}; use another workflow id, or "
            "set id_conflict_policy or id_reuse_policy"
        )
        existing = holder.identity if start.on_conflict == "existing" else None
        return Refused(ALREADY_STARTED, message, existing)

    async def _add_search_attributes(self, request: StartWorkflowExecutionRequest) -> bool:
        if self._attributes is None:
            return False
        carried = await read_carried(self._client.data_converter, request.memo)
        return await self._attributes.add(request, carried.ref, seconds=self._seconds)

    def _drop_search_attributes(self, request: StartWorkflowExecutionRequest) -> None:
        request.ClearField("search_attributes")
        if self._attributes is not None:
            self._attributes.forget()


def _read(start: LeasedStart) -> StartWorkflowExecutionRequest | Poison:
    try:
        return StartWorkflowExecutionRequest.FromString(start.request)
    except DecodeError as error:
        return Poison(f"the call cannot be read: {error}")


def _may_be_repeated(request: StartWorkflowExecutionRequest) -> bool:
    """Whether the call itself cannot start a second run, or end another one."""
    return (
        request.workflow_id_reuse_policy == _REJECT_DUPLICATE
        and request.workflow_id_conflict_policy == _FAIL
    )


_REJECT_DUPLICATE = WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
_FAIL = WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_FAIL
_NOTHING_TO_CANCEL = (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)


def _started(execution: Execution) -> Started:
    return Started(execution.first_run_key, is_open=execution.is_open)


def _holder(error: RPCError) -> str:
    """Run id of the run that holds the workflow id; empty where the answer does not tell."""
    failure = WorkflowExecutionAlreadyStartedFailure()
    details = error.grpc_status.details
    return failure.run_id if details and details[0].Unpack(failure) else ""


def _refusal(error: RPCError) -> Refused | None:
    """The definite refusals. Everything else may pass: a start that was accepted is not given up
    because of credentials, rate limits or a server that is being changed."""
    if is_too_large(error):
        return Refused("PayloadTooLarge", error.message)
    code = _REFUSALS.get(error.status)
    return None if code is None else Refused(code, error.message)


_REFUSALS = {
    RPCStatusCode.INVALID_ARGUMENT: "InvalidArgument",
    RPCStatusCode.NOT_FOUND: "NotFound",
}
