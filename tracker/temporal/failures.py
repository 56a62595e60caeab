"""Temporal failures as the tracker tells them, equal for one error whether it was caught live or
read from history.

The error that counts is the innermost that says something: wrappers which Temporal puts around it
(ActivityError, ChildWorkflowError, NexusOperationError) are peeled off. Causes below it are told at
the end of its stack trace.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import nexusrpc
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import TimeoutType
from temporalio.api.failure.v1 import Failure as FailureProto
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    FailureError,
    NexusOperationError,
    ServerError,
)
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

from tracker.core.events import Failure
from tracker.core.jsonb import clean_text

TYPE_MAX = 200
"""Characters of an error type that are kept."""

DEEPEST = 20
"""Causes that are told; a Python chain may close on itself."""

ReadText = Callable[[Payload], bytes | None]
"""JSON text of a payload, decoded if need be; None if it cannot be read."""


def failure_from_proto(
    failure: FailureProto, keep_text: bool, read_text: ReadText | None = None
) -> Failure:
    """What a failure in history says.

    Args:
        keep_text: Whether message and stack may be kept.
        read_text: Reads message and stack where they went through a codec
            (`encode_common_attributes`).
    """
    return _told(_links_of_proto(failure, read_text if keep_text else None), keep_text)


def failure_from_exception(error: BaseException, keep_text: bool) -> Failure:
    """What a caught exception says, read as the SDK's default failure converter would write it."""
    return _told(_links_of_exception(error), keep_text)


class _Link(NamedTuple):
    """One error of a chain; `is_wrapper` if its cause, should it have one, is what counts."""

    type: str
    message: str
    stack: str
    non_retryable: bool = False
    is_wrapper: bool = False


def _told(links: Iterator[_Link], keep_text: bool) -> Failure:
    first = next(links)
    while first.is_wrapper:
        following = next(links, None)
        if following is None:
            break
        first = following
    kind = clean_text(first.type, TYPE_MAX)
    if not keep_text:
        return Failure(type=kind, non_retryable=first.non_retryable)
    parts = [first.stack.rstrip("\n")]
    parts += [_caused_by(link) for link in links]
    stack = "\n".join(part for part in parts if part)
    return Failure(
        type=kind,
        message=clean_text(first.message),
        stack=clean_text(stack) or None,
        non_retryable=first.non_retryable,
    )


def _caused_by(link: _Link) -> str:
    return f"Caused by: {link.type}: {link.message}\n{link.stack}".rstrip("\n")


def _links_of_proto(failure: FailureProto, read_text: ReadText | None) -> Iterator[_Link]:
    for _ in range(DEEPEST):
        message, stack = failure.message, failure.stack_trace
        if read_text is not None and failure.HasField("encoded_attributes"):
            message, stack = _encoded_text(failure, read_text) or (message, stack)
        yield _link_of_proto(failure, message, stack)
        if not failure.HasField("cause"):
            return
        failure = failure.cause


def _link_of_proto(failure: FailureProto, message: str, stack: str) -> _Link:
    return _READ[failure.WhichOneof("failure_info")](failure, message, stack)


def _encoded_text(failure: FailureProto, read_text: ReadText) -> tuple[str, str] | None:
    encoded = read_text(failure.encoded_attributes)
    try:
        content: object = json.loads(encoded) if encoded else None
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    values = cast("dict[str, object]", content)
    return str(values.get("message") or ""), str(values.get("stack_trace") or "")


def _application(failure: FailureProto, message: str, stack: str) -> _Link:
    info = failure.application_failure_info
    return _Link(info.type or "ApplicationError", message, stack, info.non_retryable)


def _timeout(failure: FailureProto, message: str, stack: str) -> _Link:
    return _Link(timeout_type(failure.timeout_failure_info.timeout_type), message, stack)


def _server(failure: FailureProto, message: str, stack: str) -> _Link:
    return _Link("ServerError", message, stack, failure.server_failure_info.non_retryable)


def _handler(failure: FailureProto, message: str, stack: str) -> _Link:
    return _Link(f"HandlerError/{failure.nexus_handler_failure_info.type}", message, stack)


def _named(type_: str, *, is_wrapper: bool = False) -> Callable[[FailureProto, str, str], _Link]:
    def read(_failure: FailureProto, message: str, stack: str) -> _Link:
        return _Link(type_, message, stack, is_wrapper=is_wrapper)

    return read


_READ: dict[str | None, Callable[[FailureProto, str, str], _Link]] = {
    "application_failure_info": _application,
    "timeout_failure_info": _timeout,
    "canceled_failure_info": _named("CancelledError"),
    "terminated_failure_info": _named("TerminatedError"),
    "server_failure_info": _server,
    "reset_workflow_failure_info": _named("ResetWorkflow"),
    "activity_failure_info": _named("ActivityError", is_wrapper=True),
    "child_workflow_execution_failure_info": _named("ChildWorkflowError", is_wrapper=True),
    "nexus_operation_execution_failure_info": _named("NexusOperationError", is_wrapper=True),
    "nexus_handler_failure_info": _handler,
    None: _named("FailureError"),
}


def timeout_type(kind: int) -> str:
    """`TimeoutError/START_TO_CLOSE` for a number of the protobuf enum `TimeoutType`."""
    if not kind or kind not in TimeoutType.values():
        return "TimeoutError"
    name = TimeoutType.Name(cast("TimeoutType.ValueType", kind))
    return f"TimeoutError/{name.removeprefix('TIMEOUT_TYPE_')}"


def _links_of_exception(error: BaseException) -> Iterator[_Link]:
    current: BaseException | None = error
    for _ in range(DEEPEST):
        if current is None:
            return
        yield _link_of_exception(current)
        current = _cause(current)


def _link_of_exception(error: BaseException) -> _Link:
    if isinstance(error, FailureError) and error.failure:
        # It was read from a failure, whose own words are what history has.
        failure = error.failure
        return _link_of_proto(failure, failure.message, failure.stack_trace)
    stack = "\n".join(traceback.format_tb(error.__traceback__)) if error.__traceback__ else ""
    wraps = isinstance(error, (ActivityError, ChildWorkflowError, NexusOperationError))
    message = error.message if isinstance(error, FailureError) else str(error)
    if isinstance(error, asyncio.CancelledError):
        message = message or "Cancelled"
    return _Link(_type(error), message, stack, _is_final(error), wraps)


def _type(error: BaseException) -> str:
    match error:
        case ApplicationError():
            return error.type or "ApplicationError"
        case TemporalTimeoutError():
            return timeout_type(int(error.type or 0))
        case nexusrpc.HandlerError():
            return f"HandlerError/{error.type.name}"
        case _:
            return type(error).__name__


def _is_final(error: BaseException) -> bool:
    return isinstance(error, (ApplicationError, ServerError)) and error.non_retryable


def _cause(error: BaseException) -> BaseException | None:
    if error.__cause__ is not None:
        return error.__cause__
    # The SDK follows the context of its own errors only.
    if isinstance(error, FailureError) and not error.__suppress_context__:
        return error.__context__
    return None
