"""What programs send: Flowflare's bodies, checked, and turned into reports of ours.

Fields that the original would have written into a column of that name are named here one by one;
any other is refused.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from api.errors import first_problem
from api.flowflare.rendering import ABSENT
from api.reporting import Verbatim
from api.routing import strict_json
from tracker.core.jsonb import clean_text
from tracker.core.status import RunStatus, StepStatus
from tracker.errors import InvalidRequest
from tracker.models.external import ReportedError, ReportedTime, ReportRun, ReportStep
from tracker.models.wire import Name, RefId, RefType

LIMIT_MAX = 100
OFFSET_MAX = 10_000
_ANY_TIME = TypeAdapter(datetime)


def _in_utc(value: Any) -> Any:
    """SQLite's `datetime('now')`, which the original writes too, names no zone."""
    try:
        moment = _ANY_TIME.validate_python(value)
    except ValidationError:
        return value  # What comes next says what is wrong.
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _given(value: Any) -> Any:
    """The original takes an empty text for none."""
    return None if value == "" else value


Time = Annotated[ReportedTime, BeforeValidator(_in_utc)]
Json = str | dict[str, Any] | list[Any] | int | float | bool | None
Optionally = BeforeValidator(_given)
OptionalRefId = Annotated[RefId | None, Optionally]
OptionalRefType = Annotated[RefType | None, Optionally]
OptionalName = Annotated[Name | None, Optionally]
OptionalText = Annotated[str | None, Optionally]
OptionalTime = Annotated[Time | None, Optionally]


class Body(BaseModel):
    """Base: unknown fields are refused, null is as good as nothing."""

    model_config = ConfigDict(extra="forbid")


class StartWorkflow(Body):
    """`/service/start-workflow`."""

    workflowType: Name
    params: dict[str, Any] | None = None
    ref_id: OptionalRefId = None
    ref_type: OptionalRefType = None
    metadata: dict[str, Any] | None = None


class GetWorkflow(Body):
    """`/service/get-workflow`."""

    workflowId: Name


Limit = Annotated[int, Field(ge=0), AfterValidator(lambda limit: min(limit or 20, LIMIT_MAX))]
Offset = Annotated[int, Field(ge=0, le=OFFSET_MAX)]


class ListWorkflows(Body):
    """`/service/list-workflows`."""

    status: OptionalText = None
    limit: Limit | None = 20
    offset: Offset | None = 0


class WorkflowsByRef(ListWorkflows):
    """`/service/get-workflows-by-ref`."""

    ref_id: OptionalRefId = None
    ref_type: OptionalRefType = None


class Query(WorkflowsByRef):
    """`/api/workflows/query`, and of the socket."""

    workflowId: OptionalName = None


class RunUpdate(Body):
    """`run_update`."""

    id: Name
    workflow_id: int | None = None
    status: Literal["Pending", "Running", "Sleeping", "Completed", "Errored"] | None = None
    ref_id: OptionalRefId = None
    ref_type: OptionalRefType = None
    input_params: Json = None
    output_result: Json = None
    metadata: Json = None
    created_at: OptionalTime = None
    completed_at: OptionalTime = None
    sleep_until: OptionalTime = None


def _alias(value: Any) -> Any:
    if isinstance(value, dict) and "workflow_instance_id" in value:
        given = dict(value)  # pyright: ignore[reportUnknownArgumentType,reportUnknownVariableType]
        given.setdefault("workflow_run_id", given.pop("workflow_instance_id"))
        return given
    return value


class StepUpdate(Body):
    """`step_update`."""

    id: Any = None
    workflow_run_id: Name
    step_name: Name
    step_index: Annotated[int, Field(ge=0, le=1_000_000)]
    status: Literal["Pending", "Running", "Retrying", "Completed", "Failed"]
    state: Json = None
    started_at: OptionalTime = None
    completed_at: OptionalTime = None


class RetryUpdate(Body):
    """`retry_update`."""

    id: Any = None
    workflow_step_id: Any
    retry_count: int
    retry_at: OptionalTime = None
    last_error: str | None = None
    created_at: OptionalTime = None


Update = RunUpdate | StepUpdate | RetryUpdate
_UPDATES: dict[str, TypeAdapter[Any]] = {
    "run_update": TypeAdapter(RunUpdate),
    "step_update": TypeAdapter(Annotated[StepUpdate, BeforeValidator(_alias)]),
    "retry_update": TypeAdapter(RetryUpdate),
}


def read_body(model: type[Body], body: Any) -> Any:
    """A body as a model.

    Raises:
        InvalidRequest: It is none.
    """
    return _read(TypeAdapter(model), body)


def read_update(body: Any) -> Update:
    """An update.

    Raises:
        InvalidRequest: It is none, or of an unknown type.
    """
    kind = body.get("type") if isinstance(body, dict) else None  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
    adapter = _UPDATES.get(kind) if isinstance(kind, str) else None
    if adapter is None:
        raise InvalidRequest(f"Unknown update type: {kind}")
    if kind not in body:
        raise InvalidRequest(f"{kind} is missing beside type")
    if unknown := sorted(body.keys() - {"type", kind}):
        raise InvalidRequest(f"unknown beside type and {kind}: {', '.join(unknown)}")
    return _read(adapter, body[kind])


def _read(adapter: TypeAdapter[Any], body: Any) -> Any:
    try:
        return adapter.validate_python(body, strict=False)
    except ValidationError as error:
        raise InvalidRequest(first_problem(error)) from error


def halves(ref_type: str | None, ref_id: str | None) -> dict[str, str]:
    """A ref of which either half may be missing there, but not here."""
    if ref_type is None and ref_id is None:
        return {}
    return {"ref_type": ref_type or ABSENT, "ref_id": ref_id or ABSENT}


_RUN_STATUSES = {
    "Pending": RunStatus.ACCEPTED,
    "Running": RunStatus.RUNNING,
    "Sleeping": RunStatus.RUNNING,
    "Completed": RunStatus.COMPLETED,
    "Errored": RunStatus.FAILED,
}


def run_report(update: RunUpdate, workflow_type: str | None, ref: dict[str, str]) -> ReportRun:
    """The report in an update.

    Args:
        workflow_type: Of a run that is not on record.
        ref: Its workflow's, where the update names none.

    Raises:
        InvalidRequest: Metadata is no object.
    """
    told: dict[str, Any] = {"own_id": update.id, "workflow_type": workflow_type}
    told |= halves(update.ref_type, update.ref_id) or ref
    if update.status is not None:
        told["status"] = _RUN_STATUSES[update.status]
        told["sleep_until"] = update.sleep_until if update.status == "Sleeping" else None
    elif update.sleep_until is not None:
        told["sleep_until"] = update.sleep_until
    if update.metadata is not None:
        told["metadata"] = _object(update.metadata)
    if update.completed_at is not None and update.status in ("Completed", "Errored"):
        told["finished_at"] = update.completed_at
    if update.input_params is not None and workflow_type is not None:
        told["input"] = _verbatim(update.input_params)
    if update.status == "Errored":
        told["error"] = _run_error(update.output_result)
    elif update.output_result is not None:
        told["output"] = _verbatim(update.output_result)
    return ReportRun.model_construct(_fields_set=set(told), **(_BLANK_RUN | told))


_BLANK_RUN = {name: field.default for name, field in ReportRun.model_fields.items()}
_STEP_STATUSES = {
    "Pending": StepStatus.SCHEDULED,
    "Running": StepStatus.STARTED,
    "Retrying": StepStatus.SCHEDULED,
    "Completed": StepStatus.COMPLETED,
    "Failed": StepStatus.FAILED,
}


def step_report(update: StepUpdate) -> tuple[ReportStep, str | None]:
    """The report in an update, and the state as it came."""
    told: dict[str, Any] = {
        "name": update.step_name,
        "index": update.step_index,
        "status": _STEP_STATUSES[update.status],
        "started_at": update.started_at,
        "finished_at": update.completed_at,
    }
    state = None if update.state is None else _text(update.state)
    if update.status == "Completed" and update.state is not None:
        told["output"] = _verbatim(update.state)
    if update.status in ("Retrying", "Failed"):
        told |= _trouble(update.status, state)
        return _step(told), state
    return _step(told), None


def _step(told: dict[str, Any]) -> ReportStep:
    given = {name for name in told if told[name] is not None or name == "output"}
    return ReportStep.model_construct(_fields_set=given, **(_BLANK_STEP | told))


_BLANK_STEP = {name: field.default for name, field in ReportStep.model_fields.items()}


class _Retry(BaseModel):
    count: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    maxRetries: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    nextRetryAt: ReportedTime | None = None


class _Trouble(BaseModel):
    error: str | None = None
    retry: _Retry | None = None


def _trouble(status: str, state: str | None) -> dict[str, Any]:
    """What the state of a failed try tells; a state of another shape is its message."""
    try:
        told = _Trouble.model_validate_json(state or "{}")
    except ValidationError:
        told = _Trouble(error=state)
    retry = told.retry or _Retry()
    facts: dict[str, Any] = {"error": _error(told.error or state)}
    if retry.maxRetries is not None:
        facts["max_attempts"] = retry.maxRetries + 1
    if status == "Retrying":
        facts["attempt"] = retry.count
        facts["next_retry_at"] = retry.nextRetryAt or datetime.now(UTC)
    return facts


def _run_error(result: Any) -> ReportedError:
    if result is None:
        return ReportedError()
    text = _text(result)
    value = _parsed(text)
    message = value.get("error") if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
    return _error(message if isinstance(message, str) else text, text)


def _error(message: str | None, stack: str | None = None) -> ReportedError:
    """Shortened rather than refused: whoever reports an end does not look at the answer."""
    kept = {"message": message, "stack": stack}
    return ReportedError(**{name: clean_text(text) for name, text in kept.items() if text})


def _object(value: Any) -> dict[str, Any]:
    parsed = _parsed(value) if isinstance(value, str) else value
    if not isinstance(parsed, dict):
        raise InvalidRequest("metadata: expected a JSON object, or its text", field="metadata")
    return parsed  # pyright: ignore[reportUnknownVariableType]


def _verbatim(value: Any) -> Verbatim:
    text = _text(value)
    return Verbatim(_parsed(text), text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _parsed(text: str) -> Any:
    """The value of a JSON text; of any other text, NaN among them, itself."""
    try:
        return strict_json(text)
    except json.JSONDecodeError:
        return text
