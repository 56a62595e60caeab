"""Acting on a run by our id: cancel, terminate, signal, query, update; each bounded in time, and
each that changes something with an entry in the audit.

An action reaches exactly the Temporal run that stands for the id, never a later one of its chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic_core import to_jsonable_python
from temporalio.api.workflowservice.v1 import (
    RequestCancelWorkflowExecutionRequest,
    SignalWorkflowExecutionRequest,
)
from temporalio.client import (
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateStage,
)
from temporalio.converter import WorkflowSerializationContext

from tracker.core.ids import new_id
from tracker.errors import Conflict, TransientError
from tracker.models.wire import CallAnswer, ControlAnswer, RunRead
from tracker.store import outbox
from tracker.store.outbox import CancelDecision
from tracker.store.patch_metadata import patch_metadata
from tracker.temporal.failures import failure_from_exception
from tracker.temporal.reach import Reach, check_open, ended
from tracker.temporal.rpc import NoAnswer
from tracker.temporal.signal_encoder import converted


class RunControl:
    """Acts on runs of a client's namespace.

    Args:
        reach: Of the namespace.

    Every method raises `NotFound` for an unknown run, `Conflict` for one that has ended, and
    `TransientError` while Temporal, or a worker that is needed, is away.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def cancel(self, run_id: UUID, *, actor: str, reason: str | None = None) -> ControlAnswer:
        """Ask a run to cancel itself; one that has not started never will.

        Args:
            run_id: Ours or Temporal's.
            actor, reason: For the audit; Temporal shows the reason too.
        """
        run = await self._reach.run(run_id)
        async with self._reach.audited("cancel", run, actor, reason):
            if run.temporal_run_id is None:
                answer = await self._cancel_before_start(run, "cancel")
                if answer is not None:
                    return answer
                run = await self._reach.run(run.run_id)
            async with self._reach.calling(run):
                await self._request_cancel(run, actor, reason)
        return ControlAnswer(run_id=run.run_id, action="cancel")

    async def terminate(
        self, run_id: UUID, *, actor: str, reason: str | None = None
    ) -> ControlAnswer:
        """End a run without asking it; one that has not started never will. A start that is under
        way at this moment is canceled instead, as soon as it is through."""
        run = await self._reach.run(run_id)
        async with self._reach.audited("terminate", run, actor, reason):
            if run.temporal_run_id is None:
                answer = await self._cancel_before_start(run, "terminate")
                if answer is not None:
                    return answer
                run = await self._reach.run(run.run_id)
            async with self._reach.calling(run):
                await self._reach.handle(run).terminate(reason=reason or f"by {actor}")
        return ControlAnswer(run_id=run.run_id, action="terminate")

    async def signal(
        self,
        run_id: UUID,
        name: str,
        args: Sequence[Any] = (),
        *,
        actor: str,
        reason: str | None = None,
        request_id: str | None = None,
    ) -> ControlAnswer:
        """Send a signal. Temporal takes it whether or not the workflow knows the name.

        Args:
            request_id: A run takes a repeated one once.
        """
        run = await self._reach.run(run_id)
        async with (
            self._reach.audited("signal", run, actor, reason, name=name),
            self._reach.calling(run),
        ):
            await self._send_signal(run, name, args, actor, request_id or str(new_id()))
        return ControlAnswer(run_id=run.run_id, action="signal")

    async def query(self, run_id: UUID, name: str, args: Sequence[Any] = ()) -> CallAnswer:
        """Ask a run, open or closed, a question that its worker answers.

        Raises:
            Conflict: The workflow refused it: unknown name, wrong arguments, or its handler failed.
        """
        run = await self._reach.run(run_id)
        try:
            async with self._reach.calling(run, closed_too=True):
                result = await self._reach.handle(run).query(name, args=args)
        except WorkflowQueryFailedError as error:
            raise Conflict(f"the query was refused: {error.message}", query=name) from error
        except NoAnswer as error:
            raise TransientError(
                f"no worker of {run.workflow_type} answered the query within "
                f"{self._reach.seconds:g} s; try again, and see whether one is running",
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
        run = await self._reach.run(run_id)
        update_id = update_id or str(new_id())
        audited = self._reach.audited("update", run, actor, reason, name=name, update_id=update_id)
        async with audited:
            try:
                async with self._reach.calling(run, closed_too=True, seconds=wait):
                    handle = await self._reach.handle(run).start_update(
                        name, args=args, id=update_id, wait_for_stage=WorkflowUpdateStage.ACCEPTED
                    )
                    result = await handle.result()
            except WorkflowUpdateFailedError as error:
                raise _update_failed(name, error) from error
            except NoAnswer:
                return CallAnswer(run_id=run.run_id, done=False, update_id=update_id)
        return CallAnswer(run_id=run.run_id, result=_jsonable(result), update_id=update_id)

    async def patch_metadata(
        self,
        run_id: UUID,
        patch: Mapping[str, Any],
        *,
        actor: str,
        reason: str | None = None,
    ) -> RunRead:
        """Set and take away metadata of a run, open or closed. The workflow does not see it; what
        it sets later itself does not undo it.

        Args:
            patch: Key → value; None takes the key away.
        """
        run = await self._reach.run(run_id)
        keys = ", ".join(sorted(patch))
        async with self._reach.audited("patch_metadata", run, actor, reason, keys=keys):
            return await patch_metadata(self._reach.database, run.run_id, patch)

    async def _send_signal(
        self, run: RunRead, name: str, args: Sequence[Any], actor: str, request_id: str
    ) -> None:
        context = WorkflowSerializationContext(namespace=run.namespace, workflow_id=run.workflow_id)
        converter = self._reach.client.data_converter.with_context(context)
        # `encode` converts too; this one tells a caller what it gave that cannot be converted.
        converted(converter, args, field="args")
        request = SignalWorkflowExecutionRequest(
            namespace=run.namespace,
            workflow_execution=self._reach.execution(run),
            signal_name=name,
            identity=actor,
            request_id=request_id,
        )
        if args:
            request.input.payloads.extend(await converter.encode(args))
        await self._reach.client.workflow_service.signal_workflow_execution(
            request, retry=True, timeout=timedelta(seconds=self._reach.seconds)
        )

    async def _cancel_before_start(self, run: RunRead, action: str) -> ControlAnswer | None:
        """None: the run has started, or ended, and is not the outbox's matter any more."""
        check_open(run)
        decision = await outbox.cancel(self._reach.database, run.run_id)
        if decision is CancelDecision.NOT_PENDING:
            return None
        canceled = decision is CancelDecision.CANCELED
        return ControlAnswer(run_id=run.run_id, action=action, canceled_before_start=canceled)

    async def _request_cancel(self, run: RunRead, actor: str, reason: str | None) -> None:
        # Of a run that has ended Temporal takes a cancel without a word.
        known = await self._reach.described(run)
        if known is None or not known.is_open:
            raise ended(run, known)
        request = RequestCancelWorkflowExecutionRequest(
            namespace=run.namespace,
            workflow_execution=self._reach.execution(run),
            identity=actor,
            request_id=str(new_id()),
            reason=reason or "",
        )
        await self._reach.client.workflow_service.request_cancel_workflow_execution(
            request, retry=True, timeout=timedelta(seconds=self._reach.seconds)
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
