"""What workflow code may call: named steps, metadata, refs, and facts about the current run.

Safe in Temporal's sandbox, deterministic, and harmless without the plugin: `step` is then a plain
activity whose name is not carried. Metadata and links live in the run's memo, which history keeps,
so replay sees them as they were.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, cast, overload
from uuid import UUID

from temporalio import workflow
from temporalio.activity import (
    _Definition,  # pyright: ignore[reportPrivateUsage]  # No public way from function to type.
)
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError

from tracker.core.externs import METADATA_SET, REF_ADDED
from tracker.core.headers import is_step_name
from tracker.core.ids import Ref
from tracker.core.memo import MEMO_FIELD, Carried, read_memo
from tracker.core.retries import Retry
from tracker.errors import InvalidRequest
from tracker.step_failures import StepFailure, mark_failure, step_failure

if TYPE_CHECKING:
    from temporalio.common import Priority

__all__ = [
    "CurrentRun",
    "PendingStep",
    "Retry",
    "StepFailure",
    "StepOptions",
    "TrackedOptions",
    "current_run",
    "pending_step",
    "retry_policy",
    "set_metadata",
    "set_ref",
    "step",
    "step_failure",
    "tracked",
    "tracked_options",
]

ArgT = TypeVar("ArgT")
ResultT = TypeVar("ResultT")
ClassT = TypeVar("ClassT", bound=type)


class StepOptions(TypedDict, total=False):
    """Options of `step`; those not described mean what they mean to Temporal.

    Attributes:
        name: The step's name, 1-200 printable characters. Default: the activity type.
        retry: Default: Temporal's policy (no limit, exponential from 1 s).
        local: Run as a local activity; `task_queue`, `heartbeat_timeout` and `priority` do not go
            with it.
        summary: One line for Temporal's own UI. Default: the name.
    """

    name: str | None
    retry: Retry | None
    local: bool
    start_to_close_timeout: timedelta | None
    schedule_to_close_timeout: timedelta | None
    schedule_to_start_timeout: timedelta | None
    heartbeat_timeout: timedelta | None
    task_queue: str | None
    activity_id: str | None
    cancellation_type: workflow.ActivityCancellationType
    priority: Priority
    summary: str | None


@overload
async def step(
    activity: Callable[[ArgT], Awaitable[ResultT] | ResultT],
    arg: ArgT,
    **options: Unpack[StepOptions],
) -> ResultT: ...
@overload
async def step(
    activity: Callable[[Any, ArgT], Awaitable[ResultT] | ResultT],
    arg: ArgT,
    **options: Unpack[StepOptions],
) -> ResultT: ...
@overload
async def step(
    activity: Callable[..., Awaitable[ResultT] | ResultT],
    *,
    args: Sequence[Any] = (),
    **options: Unpack[StepOptions],
) -> ResultT: ...
@overload
async def step(
    activity: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = (),
    result_type: type[ResultT],
    **options: Unpack[StepOptions],
) -> ResultT: ...
@overload
async def step(
    activity: str,
    arg: Any = ...,
    *,
    args: Sequence[Any] = (),
    **options: Unpack[StepOptions],
) -> Any: ...
async def step(
    activity: Any,
    arg: Any = ...,
    *,
    args: Sequence[Any] = (),
    result_type: type | None = None,
    **options: Unpack[StepOptions],
) -> Any:
    """Run an activity as a named step and wait for its result.

    Args:
        activity: Activity function, method (`Activities.send`, no instance needed) or type name.
        arg: Its one argument. For several use `args`, for none leave both out.
        result_type: What to decode the result to, where `activity` is a name.
        options: See `StepOptions`. As for any activity, `start_to_close_timeout` or
            `schedule_to_close_timeout` is required.

    Raises:
        FailureError: As from `workflow.execute_activity` (an `ActivityError`) or
            `execute_local_activity` (the bare cause); `step_failure` reads both.
        InvalidRequest: If an option is not usable.
    """
    retry = options.get("retry")
    positional = [] if arg is ... else [arg]
    handle = _schedule(activity, positional, {"args": args, "result_type": result_type}, options)
    try:
        return await handle
    except FailureError as error:
        name = options.get("name") or _activity_type(activity)
        mark_failure(error, name, retry.max_attempts if retry else None)
        raise


@dataclass(frozen=True, slots=True)
class PendingStep:
    """What `step` says about the activity that is being scheduled at this moment.

    Attributes:
        name: Name of the step, where one was given.
        retry: Set if the activity's worker has to tell the server each delay.
    """

    name: str | None
    retry: Retry | None


def pending_step() -> PendingStep | None:
    """For the plugin's outbound interceptor: set only while `start_activity` runs inside `step`.

    The plugin passes this library through the sandbox; a copy of this module in a sandbox would
    have a variable of its own, which an interceptor cannot see.
    """
    return _pending_step.get()


def retry_policy(retry: Retry) -> RetryPolicy:
    """The part of a `Retry` that Temporal's server can keep by itself: all of it, but for linear
    growth (the server waits `initial` each time) and jitter."""
    return RetryPolicy(
        initial_interval=retry.initial,
        backoff_coefficient=retry.coefficient if retry.backoff == "exponential" else 1.0,
        maximum_interval=retry.cap,
        maximum_attempts=retry.max_attempts or 0,
        non_retryable_error_types=list(retry.non_retryable) or None,
    )


def set_metadata(values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
    """Merge values into the run's metadata, key by key.

    Recorded with the run, inherited by the next runs of its chain and by children started later.
    Costs one history event, none if nothing changes.

    Raises:
        InvalidRequest: If a key is not a string or a value is not JSON.
    """
    carried = _carried()
    metadata = dict(carried.metadata) | _json_object({**(values or {}), **more})
    if metadata == carried.metadata:
        return
    _carry(replace(carried, metadata=metadata))
    _tell(METADATA_SET, metadata)


def set_ref(ref_type: str, ref_id: str) -> None:
    """Link the run to one more business object.

    The first link becomes the primary ref if the run has none from its start or from a rule. Costs
    one history event, none if the run already has this ref.

    Raises:
        InvalidRequest: If the ref is malformed.
    """
    ref, carried = Ref(ref_type, ref_id), _carried()
    if ref == carried.ref or ref in carried.links:
        return
    # Never written as the memo's primary ref: workflow code cannot know whether a rule gave one,
    # and the memo is handed to the next runs of the chain, where it would outrank that rule.
    _carry(replace(carried, links=(*carried.links, ref)))
    _tell(REF_ADDED, ref_type, ref_id)


@dataclass(frozen=True, slots=True)
class CurrentRun:
    """The run in which this code executes.

    Attributes:
        run_id: Our public id.
        temporal_run_id: Temporal's run id.
        ref: Ref given at the start, else the first link set by `set_ref`. A ref that a rule of the
            plugin derives is not seen: rules may change between the first execution and a replay.
        metadata: As given at the start and changed by `set_metadata`.
    """

    run_id: UUID
    temporal_run_id: str
    workflow_id: str
    workflow_type: str
    ref: Ref | None
    metadata: Mapping[str, Any]


def current_run() -> CurrentRun:
    """Identity, ref and metadata of the current run; deterministic, so code may branch on it."""
    info, carried = workflow.info(), _carried()
    first_run_key = UUID(info.first_execution_run_id)
    return CurrentRun(
        run_id=carried.run_id(info.namespace, info.workflow_id, UUID(info.run_id), first_run_key),
        temporal_run_id=info.run_id,
        workflow_id=info.workflow_id,
        workflow_type=info.workflow_type,
        ref=carried.effective_ref,
        metadata=carried.metadata,
    )


@dataclass(frozen=True, slots=True)
class TrackedOptions:
    """What `tracked` says about a workflow class.

    Attributes:
        aliases: Further names under which the facade starts it.
    """

    aliases: tuple[str, ...] = ()


def tracked(*, alias: str | Iterable[str]) -> Callable[[ClassT], ClassT]:
    """Class decorator with the tracker's options of a workflow; goes above or below
    `@workflow.defn`. Subclasses do not inherit it, as they do not inherit `@workflow.defn`.

    Rules that derive refs have no place here: whoever reads histories must know them too.
    """
    options = TrackedOptions((alias,) if isinstance(alias, str) else tuple(alias))

    def mark(cls: ClassT) -> ClassT:
        setattr(cls, _OPTIONS, options)
        return cls

    return mark


def tracked_options(cls: type) -> TrackedOptions:
    """For the plugin: the options of a workflow class, empty if it is not decorated."""
    return cast("TrackedOptions", vars(cls).get(_OPTIONS, TrackedOptions()))


_OPTIONS = "__flowtrail__"
_pending_step: ContextVar[PendingStep | None] = ContextVar("flowtrail_pending_step", default=None)
_OWN = ("name", "retry", "local")
_REMOTE_ONLY = ("task_queue", "heartbeat_timeout", "priority")


def _schedule(
    activity: Any, positional: list[Any], call: dict[str, Any], options: StepOptions
) -> workflow.ActivityHandle[Any]:
    name, retry, is_local = options.get("name"), options.get("retry"), options.get("local", False)
    rest = {o: value for o, value in options.items() if o not in _OWN and value is not None}
    _check(name, is_local, rest)
    given = call | {"summary": name} | rest if name else call | rest
    if retry:
        given["retry_policy"] = retry_policy(retry)
    start = workflow.start_local_activity if is_local else workflow.start_activity
    # The interceptors run inside this call, before anything else can: no other activity sees it.
    own_delays = retry if retry and retry.needs_own_delays else None
    token = _pending_step.set(PendingStep(name, own_delays))
    try:
        return start(activity, *positional, **given)
    finally:
        _pending_step.reset(token)


def _activity_type(activity: Any) -> str:
    if isinstance(activity, str):
        return activity
    definition = cast("Any", _Definition).from_callable(activity)
    return definition.name or "activity"  # None: the dynamic activity, which serves any type.


def _check(name: str | None, is_local: bool, given: Mapping[str, Any]) -> None:
    if name is not None and not is_step_name(name):
        raise InvalidRequest(
            f"expected name to be 1-200 printable characters, got {name!r}", field="name"
        )
    for option in _REMOTE_ONLY if is_local else ():
        if option in given:
            raise InvalidRequest(f"expected no {option} with local=True, got {given[option]!r}")


def _carried() -> Carried:
    try:
        return read_memo(workflow.memo_value(MEMO_FIELD, None))
    except Exception:  # A foreign data converter may refuse a memo that others wrote.
        return Carried()


def _carry(carried: Carried) -> None:
    workflow.upsert_memo({MEMO_FIELD: carried.to_memo()})


def _tell(extern: str, *facts: Any) -> None:
    if workflow.unsafe.is_replaying():
        return
    # Temporal types the mapping's functions as bare `Callable`.
    found = cast("Any", workflow.extern_functions)().get(extern)
    function = cast("Callable[..., None] | None", found)
    if function is None:
        return
    try:
        function(*facts)
    except Exception:  # It would fail the workflow task again and again.
        workflow.logger.warning("%s failed; history keeps the fact", extern, exc_info=True)


def _json_object(values: Mapping[Any, Any]) -> dict[str, Any]:
    for key, value in values.items():
        if not isinstance(key, str):
            raise InvalidRequest(f"expected metadata keys to be strings, got {key!r}")
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(
                f"expected metadata {key!r} to be JSON, got {type(value).__name__}: {error}",
                field=key,
            ) from error
    return cast("dict[str, Any]", json.loads(json.dumps(values)))
