"""The calls about what changes, and about externally driven runs; see `calls`."""

from __future__ import annotations

from typing import Any

from tracker.client.calls import (
    Call,
    RunId,
    body_of,
    checked,
    get,
    given,
    jsonable,
    listed,
    params,
    run_path,
    uuid_of,
    with_ref,
)
from tracker.client.options import ReportOptions, StepReportOptions, WatchOptions
from tracker.models.external import ReportedRun, ReportedStep, ReportRun, ReportStep
from tracker.models.feed import ChangePage, ChangesAfter, StreamFrom, Ticket


def changes(
    after: int, limit: int | None, wait: float | None, options: WatchOptions
) -> Call[ChangePage]:
    """`GET /v1/changes`.

    Raises:
        InvalidRequest: If a filter is unknown or out of range.
    """
    fields = _filters(options) | given({"after": after, "limit": limit, "wait": wait})
    asked = checked(ChangesAfter, **fields)
    call = get("/v1/changes", ChangePage, params(asked))
    return Call(
        call.method, call.path, call.read, call.params, repeatable=True, patience=asked.wait
    )


def watch(after: int | None, snapshot: int | None, options: WatchOptions) -> StreamFrom:
    """What to ask of `GET /v1/stream`.

    Raises:
        InvalidRequest: If a filter is unknown or out of range.
    """
    fields = _filters(options) | given({"after": after, "snapshot": snapshot})
    return checked(StreamFrom, **fields)


def ticket() -> Call[Ticket]:
    """`POST /v1/tickets`."""
    return Call("POST", "/v1/tickets", Ticket.model_validate_json, repeatable=True)


def report_run(options: ReportOptions) -> Call[ReportedRun]:
    """`POST /v1/external/runs`; repeatable where the run is named.

    Raises:
        InvalidRequest: If the arguments contradict each other or are not JSON-able.
    """
    fields = _values(with_ref(_said(options, "sleep_until")))
    request = checked(ReportRun, **fields)
    named = request.run_id is not None or request.own_id is not None
    return Call(
        "POST",
        "/v1/external/runs",
        ReportedRun.model_validate_json,
        body=body_of(request),
        repeatable=named,
    )


def report_step(
    run_id: RunId, name: str, status: str, options: StepReportOptions
) -> Call[ReportedStep]:
    """`POST /v1/external/runs/{id}/steps`.

    Raises:
        InvalidRequest: If the arguments contradict each other or are not JSON-able.
    """
    request = checked(ReportStep, name=name, status=status, **_values(_said(options)))
    path = run_path(run_id).replace("/v1/runs/", "/v1/external/runs/", 1)
    return Call(
        "POST",
        f"{path}/steps",
        ReportedStep.model_validate_json,
        body=body_of(request),
        repeatable=True,
    )


def _filters(options: WatchOptions) -> dict[str, Any]:
    fields = with_ref(given(options))
    if "run" in fields:
        fields["run_id"] = uuid_of("run", fields.pop("run"))
    return listed(fields, "workflow_type", "status", "kinds")


def _said(options: Any, *null_too: str) -> dict[str, Any]:
    """What was given; of these fields, null says something."""
    return given(options) | {name: options[name] for name in null_too if name in options}


def _values(fields: dict[str, Any]) -> dict[str, Any]:
    for name in ("input", "output", "metadata"):
        if name in fields:
            fields[name] = jsonable(name, fields[name])
    return fields
