"""What makes a new run out of one, or changes what is on record of it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Response

from api import started
from api.deps import Controlling
from api.errors import READS, declared
from api.routing import Route
from tracker.errors import (
    Conflict,
    InputNotAvailable,
    NotFound,
    TemporalUnavailable,
)
from tracker.models.control import PatchRun, RerunRun, ResetAnswer, ResetRun
from tracker.models.wire import RunRead, StartedRun

router = APIRouter(prefix="/v1/runs/{run_id}", tags=["control"], route_class=Route)


@router.post(
    "/rerun",
    operation_id="rerun",
    summary="Run a run again, from its beginning",
    status_code=201,
    response_model=StartedRun,
    responses=started.ANSWERS
    | declared(NotFound, InputNotAvailable, TemporalUnavailable, *started.FAILURES, *READS),
)
async def rerun(
    access: Controlling,
    run_id: UUID,
    request: RerunRun | None = None,
    idempotency_key: Annotated[
        str | None,
        Header(description="As `idempotency_key` in the body.", max_length=255, min_length=1),
    ] = None,
) -> Response:
    """A new run of the same type, ref, metadata, task queue and timeouts, with a workflow id of its
    own; `rerun_of` names the old one, which stays as it is. The input is the run's own, from
    Temporal's history or a complete copy in the tables. 409 `input_not_available`: there is
    neither, so give `input`."""
    asked = RerunRun() if request is None else request
    key = started.one_key(idempotency_key, asked.idempotency_key)
    asked = asked.model_copy(update={"idempotency_key": key})
    result = await access.services.reruns.rerun(run_id, asked, actor=access.caller.name)
    return started.started_answer(result)


@router.post(
    "/reset",
    operation_id="reset",
    summary="Let a run go on from an earlier point",
    responses=declared(NotFound, Conflict, TemporalUnavailable, *READS),
)
async def reset(access: Controlling, run_id: UUID, request: ResetRun | None = None) -> ResetAnswer:
    """Without a body: from the step that failed last. A new run keeps what came before the point;
    steps that completed there are not carried out again. `repeats` names completed steps that lie
    behind it and will be; ask with `dry_run` first. An open run is ended by its reset."""
    asked = ResetRun() if request is None else request
    return await access.services.resets.reset(run_id, asked, actor=access.caller.name)


@router.patch(
    "",
    operation_id="patch_metadata",
    summary="Change a run's metadata",
    responses=declared(NotFound, Conflict, *READS),
)
async def patch_metadata(access: Controlling, run_id: UUID, request: PatchRun) -> RunRead:
    """Sets the keys that are named, or takes them away with null; open and closed runs alike. The
    workflow does not see it, and what the workflow sets later does not undo it."""
    return await access.services.control.patch_metadata(
        run_id, request.metadata, actor=access.caller.name, reason=request.reason
    )
