"""Acting on a run by our id: cancel, terminate, signal, query, update; each bounded in time, and
each that changes something with an entry in the audit.

An action reaches exactly the Temporal run that stands for the id, never a later one of its chain.
What a reader gets wrong: the tables may say "closed" on a worker's word that Temporal then refused,
so only history's word closes the door here; otherwise Temporal is asked.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic_core import to_jsonable_python
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import RequestCancelWorkflowExecutionRequest
from temporalio.client import (
    Client,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateStage,
)
from temporalio.service import RPCError, RPCStatusCode

from tracker.core.ids import new_id
from tracker.core.status import CLOSED_RUN_STATUSES, Engine, RunStatus
from tracker.errors import Conflict, NotFound, TemporalUnavailable, TrackerError, TransientError
from tracker.models.wire import CallAnswer, ControlAnswer, RunRead
from tracker.store import outbox
from tracker.store.audit import DONE, Action, record_action
from tracker.store.database import Database
from tracker.store.outbox import CancelDecision
from tracker.store.run_detail import get_run
from tracker.temporal.executions import Execution, describe
from tracker.temporal.failures import failure_from_exception
from tracker.temporal.rpc import CALL_SECONDS, NoAnswer, bounded_call, translate

logger = logging.getLogger(__name__)


class RunControl:
    """Acts on runs of a client's namespace.

    Args:
        database: Open.
        client: May be lazy: Temporal need not be there.
        seconds: What one call to Temporal may take.

    Every method raises `NotFound` for an unknown run, `Conflict` for one that has ended, and
    `TransientError` while Temporal, or a worker that is needed, is away.
    """

    def __init__(
        self, database: Database, client: Client, *, seconds: float = CALL_SECONDS
    ) -> None:
        self._database = database
        self._client = client
        self._seconds = seconds

    async def cancel(self, run_id: UUID, *, actor: str, reason: str | None = None) -> ControlAnswer:
        """Ask a run to cancel itself; one that has not started never will.

        Args:
            run_id: Ours or Temporal's.
            actor, reason: For the audit; Temporal shows the reason too.
        """
        run = await self._get(run_id)
        async with self._audited("cancel", run, actor, reason):
            if run.temporal_run_id is None:
                answer = await self._cancel_before_start(run, "cancel")
                if answer is not None:
                    return answer
                run = await self._get(run.run_id)
            async with self._reaching(run):
                await self._request_cancel(run, actor, reason)
        return ControlAnswer(run_id=run.run_id, action="cancel")

    async def terminate(
        self, run_id: UUID, *, actor: str, reason: str | None = None
    ) -> ControlAnswer:
        """End a run without asking it; one that has not started never will. A start that is under
        way at this moment is canceled instead, as soon as it is through."""
        run = await self._get(run_id)
        async with self._audited("terminate", run, actor, reason):
            if run.temporal_run_id is None:
                answer = await self._cancel_before_start(run, "terminate")
                if answer is not None:
                    return answer
                run = await self._get(run.run_id)
            async with self._reaching(run):
                await self._handle(run).terminate(reason=reason or f"by {actor}")
        return ControlAnswer(run_id=run.run_id, action="terminate")

    async def signal(
        self,
        run_id: UUID,
        name: str,
        args: Sequence[Any] = (),
        *,
        actor: str,
        reason: str | None = None,
    ) -> ControlAnswer:
        """Send a signal. Temporal takes it whether or not the workflow knows the name."""
        run = await self._get(run_id)
        async with self._audited("signal", run, actor, reason, name=name), self._reaching(run):
            await self._handle(run).signal(name, args=args)
        return ControlAnswer(run_id=run.run_id, action="signal")

    async def query(self, run_id: UUID, name: str, args: Sequence[Any] = ()) -> CallAnswer:
        """Ask a run, open or closed, a question that its worker answers.

        Raises:
            Conflict: The workflow refused it: unknown name, wrong arguments, or its handler failed.
        """
        run = await self._get(run_id)
        try:
            async with self._reaching(run, closed_too=True):
                result = await self._handle(run).query(name, args=args)
        except WorkflowQueryFailedError as error:
            raise Conflict(f"the query was refused: {error.message}", query=name) from error
        except NoAnswer as error:
            raise TransientError(
                f"no worker of {run.workflow_type} answered the query within {self._seconds:g} s; "
                "try again, and see whether one is running",
                query=name,
            ) from error
        return CallAnswer(run_id=run.run_id, result=_jsonable(result))

    async def update(
        self,
        run_id: UUID,
        name: str,
        args: Sequence[Any] = (),
        *,
        actor: str,
        reason: str | None = None,
        update_id: str | None = None,
        wait: float = 30.0,
    ) -> CallAnswer:
        """Send an update and wait for its result.

        Args:
            update_id: Sent again, the same update answers: that is how to go on waiting.
            wait: Seconds; after them the answer is `done=False`.

        Raises:
            Conflict: The workflow rejected it, or its handler failed.
        """
        run = await self._get(run_id)
        update_id = update_id or str(new_id())
        audited = self._audited("update", run, actor, reason, name=name, update_id=update_id)
        async with audited:
            try:
                async with self._reaching(run, closed_too=True, seconds=wait):
                    handle = await self._handle(run).start_update(
                        name, args=args, id=update_id, wait_for_stage=WorkflowUpdateStage.ACCEPTED
                    )
                    result = await handle.result()
            except WorkflowUpdateFailedError as error:
                raise _update_failed(name, error) from error
            except NoAnswer:
                return CallAnswer(run_id=run.run_id, done=False, update_id=update_id)
        return CallAnswer(run_id=run.run_id, result=_jsonable(result), update_id=update_id)

    async def _get(self, run_id: UUID) -> RunRead:
        return await get_run(self._database, self._client.namespace, run_id)

    def _handle(self, run: RunRead) -> Any:
        return self._client.get_workflow_handle(run.workflow_id, run_id=str(run.temporal_run_id))

    async def _cancel_before_start(self, run: RunRead, action: str) -> ControlAnswer | None:
        """None: the run has started, or ended, and is not the outbox's matter any more."""
        _check_open(run)
        decision = await outbox.cancel(self._database, run.run_id)
        if decision is CancelDecision.NOT_PENDING:
            return None
        canceled = decision is CancelDecision.CANCELED
        return ControlAnswer(run_id=run.run_id, action=action, canceled_before_start=canceled)

    async def _request_cancel(self, run: RunRead, actor: str, reason: str | None) -> None:
        # Of a run that has ended Temporal takes a cancel without a word.
        known = await self._described(run)
        if known is None or not known.is_open:
            raise _ended(run, known)
        request = RequestCancelWorkflowExecutionRequest(
            namespace=run.namespace,
            workflow_execution=WorkflowExecution(
                workflow_id=run.workflow_id, run_id=str(run.temporal_run_id)
            ),
            identity=actor,
            request_id=str(new_id()),
            reason=reason or "",
        )
        await self._client.workflow_service.request_cancel_workflow_execution(
            request, retry=True, timeout=timedelta(seconds=self._seconds)
        )

    @asynccontextmanager
    async def _reaching(
        self, run: RunRead, *, closed_too: bool = False, seconds: float | None = None
    ) -> AsyncGenerator[None]:
        """One bounded call about a run; Temporal's errors come out as ours."""
        if not closed_too:
            _check_open(run)
        if run.engine is not Engine.TEMPORAL:
            raise Conflict(f"run {run.run_id} is driven by {run.engine}: Temporal cannot act on it")
        if run.temporal_run_id is None:
            raise _not_started(run)
        try:
            async with bounded_call(seconds or self._seconds):
                yield
        except RPCError as error:
            raise await self._refused(run, error) from error

    async def _refused(self, run: RunRead, error: RPCError) -> TrackerError:
        if error.status is RPCStatusCode.NOT_FOUND:
            return await self._not_found(run)
        if error.status is RPCStatusCode.FAILED_PRECONDITION:
            return TransientError(
                f"Temporal cannot carry it out now (is a worker of {run.workflow_type} running?): "
                f"{error.message}",
                run_id=str(run.run_id),
            )
        return translate(error)

    async def _not_found(self, run: RunRead) -> TrackerError:
        """Temporal says "not found" of runs that it forgot and of runs that have ended."""
        try:
            async with bounded_call(self._seconds):
                return _ended(run, await self._described(run))
        except (TemporalUnavailable, RPCError):
            return _ended(run, None)

    async def _described(self, run: RunRead) -> Execution | None:
        run_id = str(run.temporal_run_id)
        return await describe(self._client, run.workflow_id, run_id, seconds=self._seconds)

    @asynccontextmanager
    async def _audited(
        self, action: str, run: RunRead, actor: str, reason: str | None, **details: str
    ) -> AsyncGenerator[None]:
        outcome = DONE
        try:
            yield
        except TrackerError as error:
            # The code alone: a message may repeat what the payload policy keeps out of the tables.
            outcome = error.code
            raise
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            entry = Action(
                actor=actor,
                action=action,
                run_id=run.run_id,
                outcome=outcome,
                reason=reason,
                details=details or None,
            )
            await self._record(entry)

    async def _record(self, action: Action) -> None:
        try:
            await record_action(self._database, self._client.namespace, action)
        except TrackerError:
            # What was done is done: its trace must be somewhere, its caller must be told.
            logger.exception(
                "not in the audit: %s",
                action,
                extra={"event": "audit.failed", "run_id": str(action.run_id)},
            )


def _check_open(run: RunRead) -> None:
    ended = run.status in CLOSED_RUN_STATUSES
    if not ended or not (run.from_history or run.temporal_run_id is None):
        return
    next_run = ""
    if run.status is RunStatus.CONTINUED_AS_NEW and run.continued_to is not None:
        next_run = f"; its chain goes on as Temporal run {run.continued_to}"
    raise Conflict(
        f"run {run.run_id} has ended as {run.status}{next_run}",
        run_id=str(run.run_id),
        status=run.status,
        continued_to=None if run.continued_to is None else str(run.continued_to),
    )


def _ended(run: RunRead, known: Execution | None) -> TrackerError:
    """The error for a run that Temporal does not run any more."""
    if known is not None:
        return Conflict(f"run {run.run_id} has ended", run_id=str(run.run_id))
    return NotFound(
        f"Temporal does not know run {run.run_id} any more; the tables keep what was recorded",
        run_id=str(run.run_id),
    )


def _not_started(run: RunRead) -> TrackerError:
    if run.status in CLOSED_RUN_STATUSES:
        return Conflict(
            f"run {run.run_id} never started: it is {run.status}", run_id=str(run.run_id)
        )
    return TransientError(
        f"run {run.run_id} is accepted and not yet started; try again when it is running",
        run_id=str(run.run_id),
        status=run.status,
    )


def _update_failed(name: str, error: WorkflowUpdateFailedError) -> Conflict:
    failure = failure_from_exception(error.cause, True)
    return Conflict(
        f"the update was refused or failed: {failure.type}: {failure.message}",
        update=name,
        type=failure.type,
    )


def _jsonable(value: Any) -> Any:
    """A result as JSON can carry it; bytes as base64."""
    return to_jsonable_python(value, bytes_mode="base64", fallback=str)
