"""Pausing runs and activities, and letting them go on.

A paused run takes signals and updates and decides nothing; a paused activity is not tried again
until somebody unpauses it, while one that runs at this moment goes on to its end. Temporal knows
pausing of runs from server 1.30 on, where the namespace allows it.
"""

from __future__ import annotations

from datetime import timedelta
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
        request = PauseWorkflowExecutionRequest(
            namespace=run.namespace,
            workflow_id=run.workflow_id,
            run_id=str(run.temporal_run_id),
            identity=actor,
            reason=reason or "",
            request_id=str(new_id()),
        )
        audited = self._reach.audited("pause", run, actor, reason)
        async with audited, self._reach.calling(run):
            await self._service.pause_workflow_execution(request, timeout=self._timeout)
        return ControlAnswer(run_id=run.run_id, action="pause")

    async def unpause(
        self, run_id: UUID, *, actor: str, reason: str | None = None
    ) -> ControlAnswer:
        """Let a paused run go on."""
        run = await self._reach.run(run_id)
        request = UnpauseWorkflowExecutionRequest(
            namespace=run.namespace,
            workflow_id=run.workflow_id,
            run_id=str(run.temporal_run_id),
            identity=actor,
            reason=reason or "",
            request_id=str(new_id()),
        )
        audited = self._reach.audited("unpause", run, actor, reason)
        async with audited, self._reach.calling(run):
            await self._service.unpause_workflow_execution(request, timeout=self._timeout)
        return ControlAnswer(run_id=run.run_id, action="unpause")

    async def pause_step(
        self, run_id: UUID, step_id: UUID, *, actor: str, reason: str | None = None
    ) -> ControlAnswer:
        """Let no further attempt of an activity begin."""
        run, activity = await self._activity(run_id, step_id)
        request = PauseActivityRequest(
            namespace=run.namespace,
            execution=self._reach.execution(run),
            identity=actor,
            id=activity.activity_id,
            reason=reason or "",
        )
        audited = self._reach.audited("pause_step", run, actor, reason, step=activity.name)
        async with audited, self._reach.calling(run):
            await self._service.pause_activity(request, timeout=self._timeout)
        return ControlAnswer(run_id=run.run_id, action="pause_step")

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
        run, activity = await self._activity(run_id, step_id)
        request = UnpauseActivityRequest(
            namespace=run.namespace,
            execution=self._reach.execution(run),
            identity=actor,
            id=activity.activity_id,
            reset_attempts=reset_attempts,
        )
        audited = self._reach.audited("unpause_step", run, actor, reason, step=activity.name)
        async with audited, self._reach.calling(run):
            await self._service.unpause_activity(request, timeout=self._timeout)
        return ControlAnswer(run_id=run.run_id, action="unpause_step")

    async def retry_step(
        self, run_id: UUID, step_id: UUID, *, actor: str, reason: str | None = None
    ) -> ControlAnswer:
        """Try an activity that backs off now, and count its attempts from 1 again."""
        run, activity = await self._activity(run_id, step_id)
        request = ResetActivityRequest(
            namespace=run.namespace,
            execution=self._reach.execution(run),
            identity=actor,
            id=activity.activity_id,
        )
        audited = self._reach.audited("retry_step", run, actor, reason, step=activity.name)
        async with audited, self._reach.calling(run):
            await self._service.reset_activity(request, timeout=self._timeout)
        return ControlAnswer(run_id=run.run_id, action="retry_step")

    @property
    def _service(self) -> WorkflowService:
        return self._reach.client.workflow_service

    @property
    def _timeout(self) -> timedelta:
        return timedelta(seconds=self._reach.seconds)

    async def _activity(self, run_id: UUID, step_id: UUID) -> tuple[RunRead, PendingActivity]:
        run = await self._reach.run(run_id)
        return run, await pending_activity(
            self._reach.database, run.namespace, run.temporal_run_id, step_id
        )
