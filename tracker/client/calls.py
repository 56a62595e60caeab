"""Every call of the API as a value: arguments in, a `Call` out; no I/O.

`Call.repeatable` says whether a repeat is harmless although the first try may have been carried
out: reads, queries, starts with an idempotency key, updates with an update id. No key is ever made
up here: a key that the caller does not know would not protect against the caller's own repeat.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Generic, Protocol, TypeVar, cast
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from tracker.client.options import (
    UNSET,
    RefLike,
    RunFilters,
    StartOptions,
    Unset,
    WorkflowFilters,
    seconds,
)
from tracker.errors import InvalidRequest
from tracker.models.filters import Page, RunFilter, WorkflowFilter
from tracker.models.stats import Stats
from tracker.models.wire import (
    Health,
    RefOverview,
    RunDetail,
    RunPage,
    RunResult,
    StartedRun,
    StartRun,
    StepDetail,
    Timeline,
    WorkflowPage,
    WorkflowTypeRead,
    WorkflowTypes,
    parse_ref,
)


class Paged(Protocol):
    """A page of any list."""

    next_cursor: str | None


T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
P = TypeVar("P", bound=Paged)
RunId = UUID | str
"""Our run id or Temporal's."""
Params = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and how its answer is read.

    Attributes:
        read: Makes the result of the answer's body; raises pydantic's ValidationError.
        repeatable: See the module docstring.
        patience: Seconds that the server may take by request before it answers.
        budget: Seconds within which retries must begin; None: only their number is limited.
        absent_is_none: Whether "not found" is an answer, None, instead of an error.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Params = ()
    body: bytes | None = None
    repeatable: bool = False
    patience: float = 0.0
    budget: float | None = None
    absent_is_none: bool = False

    def http_arguments(self, timeout: float) -> dict[str, Any]:
        """Keyword arguments for `request` of either of httpx's clients.

        Args:
            timeout: Seconds, without what the server was asked to wait.
        """
        return {
            "method": self.method,
            "url": self.path,
            "params": self.params or None,
            "content": self.body,
            "headers": None if self.body is None else {"Content-Type": "application/json"},
            "timeout": httpx.Timeout(timeout, read=timeout + self.patience),
        }


def start_workflow(
    workflow_type: str, input: Any | Unset, options: StartOptions
) -> Call[StartedRun]:
    """`POST /v1/runs`.

    Raises:
        InvalidRequest: If the arguments contradict each other or are not JSON-able.
    """
    fields = with_ref(given(options))
    for name in ("start_delay", "execution_timeout", "run_timeout"):
        if name in fields:
            fields[name] = seconds(fields[name])
    if input is not UNSET:
        if "args" in fields:
            raise InvalidRequest("give input (one argument) or args (several), not both")
        fields["input"] = input
    for name in ("input", "args", "metadata"):
        if name in fields:
            fields[name] = jsonable(name, fields[name])
    request = checked(StartRun, workflow_type=workflow_type, **fields)
    return Call(
        "POST",
        "/v1/runs",
        StartedRun.model_validate_json,
        body=body_of(request),
        repeatable=request.idempotency_key is not None,
    )


def get_run(run_id: RunId) -> Call[RunDetail]:
    """`GET /v1/runs/{id}`."""
    return get(run_path(run_id), RunDetail)


def get_step(run_id: RunId, step_id: RunId) -> Call[StepDetail]:
    """`GET /v1/runs/{id}/steps/{step_id}`."""
    return get(f"{run_path(run_id)}/steps/{uuid_of('step_id', step_id)}", StepDetail)


def timeline(run_id: RunId) -> Call[Timeline]:
    """`GET /v1/runs/{id}/timeline`."""
    return get(f"{run_path(run_id)}/timeline", Timeline)


def result(run_id: RunId, wait: float) -> Call[RunResult]:
    """`GET /v1/runs/{id}/result?wait=`; the answer may come later than `wait`, never much."""
    call = get(f"{run_path(run_id)}/result", RunResult, (("wait", f"{wait:.3f}"),))
    return replace(call, patience=wait)


def list_runs(filters: RunFilters) -> Call[RunPage]:
    """`GET /v1/runs`.

    Raises:
        InvalidRequest: If a filter is unknown, out of range, or a time has no zone.
    """
    return get("/v1/runs", RunPage, params(checked(RunFilter, **run_fields(filters))))


def run_fields(filters: RunFilters) -> dict[str, Any]:
    """Run filters as fields of `RunFilter`.

    Raises:
        InvalidRequest: If a ref or a metadata value cannot be one.
    """
    fields = listed(with_ref(given(filters)), "workflow_type", "status")
    for name in ("min_duration", "max_duration"):
        if name in fields:
            fields[name] = seconds(fields[name])
    metadata: Mapping[str, Any] = fields.pop("metadata", {})
    if metadata:
        fields["metadata"] = {key: texts(key, value) for key, value in metadata.items()}
    return fields


def next_page(call: Call[P], page: P) -> Call[P] | None:
    """The call for the page after `page`; None after the last."""
    if page.next_cursor is None:
        return None
    kept = tuple(pair for pair in call.params if pair[0] != "cursor")
    return replace(call, params=(*kept, ("cursor", page.next_cursor)))


def list_workflows(filters: WorkflowFilters) -> Call[WorkflowPage]:
    """`GET /v1/workflows`.

    Raises:
        InvalidRequest: If a filter is unknown or out of range.
    """
    fields = listed(with_ref(given(filters)), "workflow_type")
    return get("/v1/workflows", WorkflowPage, params(checked(WorkflowFilter, **fields)))


def runs_by_ref(ref: RefLike, limit: int | None, cursor: str | None) -> Call[RefOverview]:
    """`GET /v1/refs/{ref_type}/{ref_id}`.

    Raises:
        InvalidRequest: If it is not a ref, or the limit is out of range.
    """
    parsed = parse_ref(ref)
    page = checked(Page, **given({"limit": limit, "cursor": cursor}))
    path = f"/v1/refs/{segment(parsed.ref_type)}/{segment(parsed.ref_id)}"
    return get(path, RefOverview, params(page))


def workflow_types() -> Call[list[WorkflowTypeRead]]:
    """`GET /v1/workflow-types`."""
    return Call(
        "GET",
        "/v1/workflow-types",
        lambda body: WorkflowTypes.model_validate_json(body).workflow_types,
        repeatable=True,
    )


def stats() -> Call[Stats]:
    """`GET /v1/stats`."""
    return Call("GET", "/v1/stats", Stats.model_validate_json, repeatable=True)


def ready() -> Call[Health]:
    """`GET /readyz`; not repeatable, for the caller asks about this moment."""
    return Call("GET", "/readyz", Health.model_validate_json)


def get(path: str, model: type[M], query: Params = ()) -> Call[M]:
    """A read of a model."""
    return Call("GET", path, model.model_validate_json, params=query, repeatable=True)


def run_path(run_id: RunId) -> str:
    """Path of a run.

    Raises:
        InvalidRequest: If it is no UUID.
    """
    return f"/v1/runs/{uuid_of('run_id', run_id)}"


def uuid_of(name: str, value: RunId) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(value)
    except ValueError:
        raise InvalidRequest(f"expected {name} to be a UUID, got {value!r}", field=name) from None


def segment(text: str) -> str:
    """A text as one segment of a path."""
    # Dots are escaped too: URL libraries resolve the segments "." and "..".
    return quote(text, safe="").replace(".", "%2E")


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that were given: None counts as absent."""
    return {name: value for name, value in options.items() if value is not None}


def with_ref(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields with `ref` taken apart."""
    ref: RefLike | None = fields.pop("ref", None)
    if ref is None:
        return fields
    if "ref_type" in fields or "ref_id" in fields:
        raise InvalidRequest("give ref, or ref_type and ref_id, not both", field="ref")
    parsed = parse_ref(ref)
    return fields | {"ref_type": parsed.ref_type, "ref_id": parsed.ref_id}


def listed(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    """Fields of which a single text may stand for a list."""
    single = {name: [fields[name]] for name in names if isinstance(fields.get(name), str)}
    return fields | single


def texts(key: str, value: Any) -> list[str]:
    """Metadata values to filter by, as text."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [_text(key, value)]
    return [_text(key, item) for item in cast("Sequence[Any]", value)]


def _text(key: str, value: Any) -> str:
    """As `run_label` holds it: JSON's text of a scalar, strings without their quotes."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise InvalidRequest(
        f"expected metadata filter {key!r} to be a string, number or boolean, got {value!r}",
        field=f"metadata.{key}",
    )


def jsonable(name: str, value: Any) -> Any:
    """A value as JSON can carry it."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidRequest(f"{name} cannot be turned into JSON: {error}", field=name) from error


def checked(model: type[M], **fields: Any) -> M:
    """A request, or InvalidRequest that names the field."""
    try:
        return model(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"{where}: {first['msg']}" if where else first["msg"]
        raise InvalidRequest(message, field=where) from error


def body_of(request: BaseModel) -> bytes:
    """A request as JSON."""
    # Not pydantic's own JSON: it would turn NaN into null without a word.
    try:
        return json.dumps(
            request.model_dump(exclude_unset=True),
            default=to_jsonable_python,
            allow_nan=False,
            ensure_ascii=False,
            separators=(",", ":"),
        ).encode()
    except ValueError as error:
        raise InvalidRequest(f"the request cannot be turned into JSON: {error}") from error


def params(filters: BaseModel) -> Params:
    """A filter as query parameters."""
    pairs: list[tuple[str, str]] = []
    for name, value in filters.model_dump(mode="json", exclude_unset=True).items():
        if isinstance(value, dict):
            labels = cast("dict[str, list[str]]", value)
            pairs += [(f"{name}.{key}", one) for key, many in labels.items() for one in many]
        elif isinstance(value, list):
            pairs += [(name, str(one)) for one in cast("list[Any]", value)]
        else:
            pairs.append((name, str(value)))
    return tuple(pairs)
