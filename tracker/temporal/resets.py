"""Makes a run go on from an earlier point, in a new run that keeps what came before.

That is how a run is retried from its failed step without charging twice: steps that had completed
before the point keep their results and do not run again. An open run is ended by its reset.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from temporalio.api.enums.v1 import ResetReapplyExcludeType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.service import RPCError

from tracker.core.ids import Ref, derived_run_id, new_id
from tracker.errors import Conflict, TrackerError
from tracker.models.control import ResetAnswer, ResetRun
from tracker.models.wire import RunRead
from tracker.store.reset_runs import record_reset
from tracker.store.step_rows import step_event
from tracker.temporal import reset_points
from tracker.temporal.executions import describe
from tracker.temporal.history_reader import read_history
from tracker.temporal.reach import Reach, check_engine, ended
from tracker.temporal.reset_points import ResetPoint
from tracker.temporal.rpc import bounded_call

logger = logging.getLogger(__name__)


class Resets:
    """Resets runs of a namespace."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def reset(
        self, run_id: UUID, request: ResetRun, *, actor: str, request_id: str | None = None
    ) -> ResetAnswer:
        """Let a run go on from a point, or tell what that would do.

        Args:
            run_id: Ours or Temporal's.
            request_id: Temporal carries out a repeated one once.

        Raises:
            NotFound: There is no such run or step, or Temporal has no history of it any more.
            Conflict: There is no such point in it.
            TransientError: Temporal is away.
        """
        run = await self._reach.run(run_id)
        check_engine(run)
        if request.dry_run:
            point = await self._point(run, request)
            return ResetAnswer(
                run_id=run.run_id, event_id=point.event_id, repeats=list(point.repeats)
            )
        audited = self._reach.audited("reset", run, actor, request.reason, to=request.to)
        async with audited:
            point = await self._point(run, request)
            return await self._carry_out(run, point, request, actor, request_id or str(new_id()))

    async def _point(self, run: RunRead, request: ResetRun) -> ResetPoint:
        history = await self._history(run)
        if request.event_id is not None:
            return reset_points.of_event(history, request.event_id)
        if request.step_id is None:
            return reset_points.of_failed_step(history)
        event_id = await step_event(
            self._reach.database, run.namespace, run.temporal_run_id, request.step_id
        )
        if event_id is None:
            raise Conflict(
                "history has not told yet where this step began; try again in a few seconds, or "
                "reset to an event",
                step_id=str(request.step_id),
            )
        return reset_points.of_event(history, event_id)

    async def _history(self, run: RunRead) -> Sequence[HistoryEvent]:
        if run.temporal_run_id is None:
            raise Conflict(f"run {run.run_id} is {run.status}: it has no history to go back in")
        history = await read_history(
            self._reach.client, run.workflow_id, run.temporal_run_id, seconds=self._reach.seconds
        )
        if not history:
            raise ended(run, None)
        return history

    async def _carry_out(
        self, run: RunRead, point: ResetPoint, request: ResetRun, actor: str, request_id: str
    ) -> ResetAnswer:
        call = ResetWorkflowExecutionRequest(
            namespace=run.namespace,
            workflow_execution=self._reach.execution(run),
            reason=request.reason or f"by {actor}",
            workflow_task_finish_event_id=point.event_id,
            request_id=request_id,
            reset_reapply_exclude_types=_excluded(request),
            identity=actor,
        )
        async with self._reach.calling(run, closed_too=True):
            answer = await self._reach.client.workflow_service.reset_workflow_execution(
                call, retry=True, timeout=timedelta(seconds=self._reach.seconds)
            )
        new_key = UUID(answer.run_id)
        first_key = run.first_temporal_run_id or run.temporal_run_id
        await self._record(run, new_key)
        return ResetAnswer(
            run_id=run.run_id,
            new_run_id=derived_run_id(run.namespace, new_key, first_key),
            new_temporal_run_id=new_key,
            event_id=point.event_id,
            repeats=list(point.repeats),
        )

    async def _record(self, run: RunRead, new_key: UUID) -> None:
        """Put the new run on record, so that the next request finds it. Whatever goes wrong here
        the reconciler makes good; what was done is done."""
        client = self._reach.client
        try:
            async with bounded_call(self._reach.seconds):
                execution = await describe(
                    client, run.workflow_id, str(new_key), seconds=self._reach.seconds
                )
            if execution is None:
                return
            identity = execution.identity
            if identity.ref is None and run.ref_type is not None and run.ref_id is not None:
                identity = replace(identity, rule_ref=Ref(run.ref_type, run.ref_id))
            await record_reset(self._reach.database, identity)
        except (TrackerError, RPCError):
            logger.warning(
                "the run that a reset made is not on record yet: Temporal run %s",
                new_key,
                exc_info=True,
                extra={"event": "reset.unrecorded", "temporal_run_id": str(new_key)},
            )


def _excluded(request: ResetRun) -> list[ResetReapplyExcludeType.ValueType]:
    excluded: list[ResetReapplyExcludeType.ValueType] = []
    if not request.reapply_signals:
        excluded.append(ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL)
    if not request.reapply_updates:
        excluded.append(ResetReapplyExcludeType.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE)
    return excluded
