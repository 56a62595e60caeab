"""Acting on a run. Who did it, why, and what came of it is kept in the audit."""

from __future__ import annotations

import json
from uuid import UUID

from fastapi import APIRouter
from pydantic_core import PydanticSerializationError

from api.deps import Controlling, Reading
from api.errors import READS, declared
from api.routing import Route
from tracker.errors import Conflict, NotFound, PayloadTooLarge, TemporalUnavailable
from tracker.models.wire import (
    CallAnswer,
    ControlAnswer,
    ControlRun,
    QueryRun,
    SignalRun,
    UpdateRun,
)

router = APIRouter(prefix="/v1/runs/{run_id}", tags=["control"], route_class=Route)

ERRORS = declared(NotFound, Conflict, PayloadTooLarge, TemporalUnavailable, *READS)


@router.post("/cancel", operation_id="cancel", summary="Ask a run to cancel", responses=ERRORS)
async def cancel(
    access: Controlling, run_id: UUID, request: ControlRun | None = None
) -> ControlAnswer:
    """The workflow sees a cancellation and decides how it ends. A run that Temporal was not told
    of yet never starts: `canceled_before_start`."""
    reason = None if request is None else request.reason
    return await access.services.control.cancel(run_id, actor=access.caller.name, reason=reason)


@router.post("/terminate", operation_id="terminate", summary="End a run at once", responses=ERRORS)
async def terminate(
    access: Controlling, run_id: UUID, request: ControlRun | None = None
) -> ControlAnswer:
    """The workflow is not asked, and its code does not run any more: nothing is cleaned up."""
    reason = None if request is None else request.reason
    return await access.services.control.terminate(run_id, actor=access.caller.name, reason=reason)


@router.post("/signal", operation_id="signal", summary="Send a signal", responses=ERRORS)
async def signal(access: Controlling, run_id: UUID, request: SignalRun) -> ControlAnswer:
    """Temporal takes it whether or not the workflow knows the name; repeating it sends another."""
    return await access.services.control.signal(
        run_id, request.name, request.args, actor=access.caller.name, reason=request.reason
    )


@router.post("/query", operation_id="query", summary="Ask a run something", responses=ERRORS)
async def query(access: Reading, run_id: UUID, request: QueryRun) -> CallAnswer:
    """A worker answers; the run, open or closed, stays as it is. 409: the workflow knows no such
    query, or its handler failed. 503: no worker answered in time."""
    answer = await access.services.control.query(run_id, request.name, request.args)
    return _presentable(answer)


@router.post("/update", operation_id="update", summary="Send an update", responses=ERRORS)
async def update(access: Controlling, run_id: UUID, request: UpdateRun) -> CallAnswer:
    """Waits for the result; after `wait` seconds it answers `done: false`. Sent again with the same
    `update_id` it is not carried out twice: that is how to go on waiting. 409: the workflow
    refused it, or its handler failed."""
    answer = await access.services.control.update(
        run_id,
        request.name,
        request.args,
        actor=access.caller.name,
        reason=request.reason,
        update_id=request.update_id,
        wait=request.wait,
    )
    return _presentable(answer)


def _presentable(answer: CallAnswer) -> CallAnswer:
    """The answer, without what UTF-8 cannot carry: a lone surrogate is JSON to Temporal's SDKs."""
    try:
        answer.model_dump_json()
    except PydanticSerializationError:
        text = json.dumps(answer.result, ensure_ascii=False, default=str)
        clean = json.loads(text.encode("utf-8", "replace"))
        return answer.model_copy(update={"result": clean})
    return answer
