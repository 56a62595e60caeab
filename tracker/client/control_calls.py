"""The calls that act on runs, one or many; see `calls`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel

from tracker.client.calls import (
    Call,
    RunId,
    body_of,
    checked,
    get,
    given,
    jsonable,
    params,
    run_fields,
    run_path,
    uuid_of,
)
from tracker.client.options import UNSET, BulkOptions, ResetOptions, RunFilters, Unset
from tracker.models.control import (
    BulkItemFilter,
    BulkItemPage,
    BulkPage,
    BulkPreview,
    BulkRead,
    PatchRun,
    RerunRun,
    ResetAnswer,
    ResetRun,
    StartBulk,
    UnpauseStep,
)
from tracker.models.filters import Page
from tracker.models.wire import (
    CallAnswer,
    ControlAnswer,
    ControlRun,
    QueryRun,
    RunRead,
    SignalRun,
    StartedRun,
    UpdateRun,
)

T = TypeVar("T")


def control(action: str, run_id: RunId, reason: str | None) -> Call[ControlAnswer]:
    """`POST /v1/runs/{id}/cancel` and `/terminate`."""
    request = checked(ControlRun, **given({"reason": reason}))
    return _post(run_id, action, ControlAnswer.model_validate_json, request)


def signal(
    run_id: RunId, name: str, args: Sequence[Any], reason: str | None
) -> Call[ControlAnswer]:
    """`POST /v1/runs/{id}/signal`."""
    fields = given({"name": name, "args": jsonable("args", args), "reason": reason})
    return _post(run_id, "signal", ControlAnswer.model_validate_json, checked(SignalRun, **fields))


def query(run_id: RunId, name: str, args: Sequence[Any]) -> Call[Any]:
    """`POST /v1/runs/{id}/query`; gives the query's result. Changes nothing, hence repeatable."""
    request = checked(QueryRun, name=name, args=jsonable("args", args))
    call = _post(run_id, "query", lambda body: CallAnswer.model_validate_json(body).result, request)
    return replace(call, repeatable=True)


def update(
    run_id: RunId,
    name: str,
    args: Sequence[Any],
    *,
    update_id: str | None,
    wait: float,
    reason: str | None,
) -> Call[CallAnswer]:
    """`POST /v1/runs/{id}/update`; repeatable by its update id, which Temporal carries out once."""
    fields = given(
        {
            "name": name,
            "args": jsonable("args", args),
            "update_id": update_id,
            "wait": wait,
            "reason": reason,
        }
    )
    call = _post(run_id, "update", CallAnswer.model_validate_json, checked(UpdateRun, **fields))
    return replace(call, patience=wait, repeatable=update_id is not None)


def rerun(
    run_id: RunId,
    input: Any | Unset,
    *,
    args: Sequence[Any] | None,
    idempotency_key: str | None,
    reason: str | None,
) -> Call[StartedRun]:
    """`POST /v1/runs/{id}/rerun`; repeatable with an idempotency key."""
    fields = given({"args": args, "idempotency_key": idempotency_key, "reason": reason})
    if input is not UNSET:
        fields["input"] = input
    for name in ("input", "args"):
        if name in fields:
            fields[name] = jsonable(name, fields[name])
    request = checked(RerunRun, **fields)
    call = _post(run_id, "rerun", StartedRun.model_validate_json, request)
    return replace(call, repeatable=idempotency_key is not None)


def reset(run_id: RunId, options: ResetOptions) -> Call[ResetAnswer]:
    """`POST /v1/runs/{id}/reset`; what it would do can be asked for again and again."""
    request = checked(ResetRun, **given(options))
    call = _post(run_id, "reset", ResetAnswer.model_validate_json, request)
    return replace(call, repeatable=request.dry_run)


def control_step(
    action: str, run_id: RunId, step_id: RunId, reason: str | None
) -> Call[ControlAnswer]:
    """`POST /v1/runs/{id}/steps/{step_id}/pause` and `/retry`."""
    request = checked(ControlRun, **given({"reason": reason}))
    path = f"steps/{uuid_of('step_id', step_id)}/{action}"
    return _post(run_id, path, ControlAnswer.model_validate_json, request)


def unpause_step(
    run_id: RunId, step_id: RunId, *, reset_attempts: bool, reason: str | None
) -> Call[ControlAnswer]:
    """`POST /v1/runs/{id}/steps/{step_id}/unpause`."""
    fields = given({"reset_attempts": reset_attempts, "reason": reason})
    path = f"steps/{uuid_of('step_id', step_id)}/unpause"
    return _post(run_id, path, ControlAnswer.model_validate_json, checked(UnpauseStep, **fields))


def patch_metadata(run_id: RunId, metadata: Mapping[str, Any], reason: str | None) -> Call[RunRead]:
    """`PATCH /v1/runs/{id}`: the same once more changes nothing, hence repeatable."""
    request = checked(
        PatchRun, **given({"metadata": jsonable("metadata", metadata), "reason": reason})
    )
    return Call(
        "PATCH",
        run_path(run_id),
        RunRead.model_validate_json,
        body=body_of(request),
        repeatable=True,
    )


def start_bulk(action: str, filters: RunFilters, options: BulkOptions) -> Call[BulkRead]:
    """`POST /v1/bulk`; repeatable with an idempotency key."""
    request = _bulk(action, filters, options, dry_run=False)
    return Call(
        "POST",
        "/v1/bulk",
        BulkRead.model_validate_json,
        body=body_of(request),
        repeatable=request.idempotency_key is not None,
    )


def preview_bulk(action: str, filters: RunFilters, options: BulkOptions) -> Call[BulkPreview]:
    """`POST /v1/bulk` as a dry run."""
    request = _bulk(action, filters, options, dry_run=True)
    return Call(
        "POST",
        "/v1/bulk",
        BulkPreview.model_validate_json,
        body=body_of(request),
        repeatable=True,
    )


def get_bulk(bulk_id: RunId) -> Call[BulkRead]:
    """`GET /v1/bulk/{id}`."""
    return get(_bulk_path(bulk_id), BulkRead)


def list_bulks(limit: int | None, cursor: str | None) -> Call[BulkPage]:
    """`GET /v1/bulk`."""
    page = checked(Page, **given({"limit": limit, "cursor": cursor}))
    return get("/v1/bulk", BulkPage, params(page))


def bulk_items(
    bulk_id: RunId, status: str | None, limit: int | None, cursor: str | None
) -> Call[BulkItemPage]:
    """`GET /v1/bulk/{id}/items`."""
    filters = checked(BulkItemFilter, **given({"status": status, "limit": limit, "cursor": cursor}))
    return get(f"{_bulk_path(bulk_id)}/items", BulkItemPage, params(filters))


def cancel_bulk(bulk_id: RunId, reason: str | None) -> Call[BulkRead]:
    """`POST /v1/bulk/{id}/cancel`."""
    request = checked(ControlRun, **given({"reason": reason}))
    path = f"{_bulk_path(bulk_id)}/cancel"
    return Call("POST", path, BulkRead.model_validate_json, body=body_of(request))


def _bulk(action: str, filters: RunFilters, options: BulkOptions, *, dry_run: bool) -> StartBulk:
    fields = given(options)
    if "signal_args" in fields:
        fields["signal_args"] = jsonable("signal_args", fields["signal_args"])
    return checked(StartBulk, action=action, filter=run_fields(filters), dry_run=dry_run, **fields)


def _bulk_path(bulk_id: RunId) -> str:
    return f"/v1/bulk/{uuid_of('bulk_id', bulk_id)}"


def _post(run_id: RunId, action: str, read: Callable[[bytes], T], request: BaseModel) -> Call[T]:
    return Call("POST", f"{run_path(run_id)}/{action}", read, body=body_of(request))
