"""Pausing runs and their activities."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter

from api.deps import Controlling
from api.errors import READS, declared
from api.routing import Route
from tracker.errors import Conflict, NotFound, TemporalUnavailable
from tracker.models.control import UnpauseStep
from tracker.models.wire import ControlAnswer, ControlRun

router = APIRouter(prefix="/v1/runs/{run_id}", tags=["control"], route_class=Route)

ERRORS = declared(NotFound, Conflict, TemporalUnavailable, *READS)
STEP = "/steps/{step_id}"


@router.post("/pause", operation_id="pause", summary="Pause a run", responses=ERRORS)
async def pause(
    access: Controlling, run_id: UUID, request: ControlRun | None = None
) -> ControlAnswer:
    """It takes signals and decides nothing until it is unpaused; its timeouts go on. Activities
    that are under way end as they do."""
    reason = None if request is None else request.reason
    return await access.services.pauses.pause(run_id, actor=access.caller.name, reason=reason)


@router.post("/unpause", operation_id="unpause", summary="Unpause a run", responses=ERRORS)
async def unpause(
    access: Controlling, run_id: UUID, request: ControlRun | None = None
) -> ControlAnswer:
    """It goes on where it was."""
    reason = None if request is None else request.reason
    return await access.services.pauses.unpause(run_id, actor=access.caller.name, reason=reason)


@router.post(
    STEP + "/pause", operation_id="pause_step", summary="Pause an activity", responses=ERRORS
)
async def pause_step(
    access: Controlling, run_id: UUID, step_id: UUID, request: ControlRun | None = None
) -> ControlAnswer:
    """No further attempt begins until it is unpaused; one that is under way goes on."""
    reason = None if request is None else request.reason
    return await access.services.pauses.pause_step(
        run_id, step_id, actor=access.caller.name, reason=reason
    )


@router.post(
    STEP + "/unpause", operation_id="unpause_step", summary="Unpause an activity", responses=ERRORS
)
async def unpause_step(
    access: Controlling, run_id: UUID, step_id: UUID, request: UnpauseStep | None = None
) -> ControlAnswer:
    """Its next attempt begins at once."""
    asked = UnpauseStep() if request is None else request
    return await access.services.pauses.unpause_step(
        run_id,
        step_id,
        actor=access.caller.name,
        reason=asked.reason,
        reset_attempts=asked.reset_attempts,
    )


@router.post(
    STEP + "/retry",
    operation_id="retry_step",
    summary="Try an activity again now",
    responses=ERRORS,
)
async def retry_step(
    access: Controlling, run_id: UUID, step_id: UUID, request: ControlRun | None = None
) -> ControlAnswer:
    """An activity that waits for its next attempt begins it now; attempts count from 1 again."""
    reason = None if request is None else request.reason
    return await access.services.pauses.retry_step(
        run_id, step_id, actor=access.caller.name, reason=reason
    )
