"""Pausing runs and activities, and letting them go on.

A paused run takes signals and updates and decides nothing; a paused activity is not tried again
until somebody unpauses it, while one that runs at this moment goes on to its end. Older servers do
not know the pausing of runs, and newer ones only where they are set so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from temporalio.api.workflowservice.v1 import (
    PauseActivityRequest,
    PauseWorkflowExecutionRequest,
    ResetActivityRequest,
    UnpauseActivityRequest,
    UnpauseWorkflowExecutionRequest,
)
from temporalio.service import WorkflowService

from tracker.core.ids import new_id
from tracker.models.wire import ControlAnswer, RunRead
from tracker.store.step_rows import PendingActivity, pending_activity
from tracker.temporal.reach import Reach


class Pauses:
    """Pauses runs and activities of a namespace; errors are those of `RunControl`."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def pause(self, run_id: UUID, *, actor: str, reason: str | None = None) -> ControlAnswer:
        """Let a run decide nothing until it is unpaused."""
        run = await self._reach.run(run_id)
        request = PauseWorkflowExecutionRequest(**_of_run(run, actor, reason))
        send = self._service.pause_workflow_execution
        return await self._carry_out("pause", run, actor, reason, partial(send, request))

    async def unpause(
        self, run_id: UUID, *, actor: str, reason: str | None = None
    ) -> ControlAnswer:
        """Let a paused run go on."""
        run = await self._reach.run(run_id)
        request = UnpauseWorkflowExecutionRequest(**_of_run(run, actor, reason))
        send = self._service.unpause_workflow_execution
        return await self._carry_out("unpause", run, actor, reason, partial(send, request))

    async def pause_step(
        self, run_id: UUID, step_id: UUID, *, actor: str, reason: str | None = None
    ) -> ControlAnswer:
        """Let no further attempt of an activity begin."""
        run, step = await self._activity(run_id, step_id)
        request = PauseActivityRequest(**self._of_step(run, step, actor), reason=reason or "")
        call = partial(self._service.pause_activity, request)
        return await self._carry_out("pause_step", run, actor, reason, call, step=step.name)

    async def unpause_step(
        self,
        run_id: UUID,
        step_id: UUID,
        *,
        actor: str,
        reason: str | None = None,
        reset_attempts: bool = False,
    ) -> ControlAnswer:
        """Let a paused activity go on, at once.

        Args:
            reset_attempts: Count its attempts from 1 again.
        """
        run, step = await self._activity(run_id, step_id)
        request = UnpauseActivityRequest(
            **self._of_step(run, step, actor), reset_attempts=reset_attempts
        )
        call = partial(self._service.unpause_activity, request)
        return await self._carry_out("unpause_step", run, actor, reason, call, step=step.name)

    async def retry_step(
        self, run_id: UUID, step_id: UUID, *, actor: str, reason: str | None = None
    ) -> ControlAnswer:
        """Try an activity that backs off now, and count its attempts from 1 again."""
        run, step = await self._activity(run_id, step_id)
        request = ResetActivityRequest(**self._of_step(run, step, actor))
        call = partial(self._service.reset_activity, request)
        return await self._carry_out("retry_step", run, actor, reason, call, step=step.name)

    @property
    def _service(self) -> WorkflowService:
        return self._reach.client.workflow_service

    async def _carry_out(
        self,
        action: str,
        run: RunRead,
        actor: str,
        reason: str | None,
        call: Callable[..., Awaitable[object]],
        **details: str,
    ) -> ControlAnswer:
        audited = self._reach.audited(action, run, actor, reason, **details)
        async with audited, self._reach.calling(run):
            await call(timeout=timedelta(seconds=self._reach.seconds))
        return ControlAnswer(run_id=run.run_id, action=action)

    async def _activity(self, run_id: UUID, step_id: UUID) -> tuple[RunRead, PendingActivity]:
        run = await self._reach.run(run_id)
        return run, await pending_activity(
            self._reach.database, run.namespace, run.temporal_run_id, step_id
        )

    def _of_step(self, run: RunRead, activity: PendingActivity, actor: str) -> dict[str, Any]:
        return {
            "namespace": run.namespace,
            "execution": self._reach.execution(run),
            "identity": actor,
            "id": activity.activity_id,
        }


def _of_run(run: RunRead, actor: str, reason: str | None) -> dict[str, Any]:
    return {
        "namespace": run.namespace,
        "workflow_id": run.workflow_id,
        "run_id": str(run.temporal_run_id),
        "identity": actor,
        "reason": reason or "",
        "request_id": str(new_id()),
    }
