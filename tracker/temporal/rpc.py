"""One bounded call to Temporal, and its errors as ours.

The SDK's own retries are not bounded by a call's timeout, and a lazy client that cannot connect
raises a plain RuntimeError; both are dealt with here, for whoever calls on behalf of a user who
waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from temporalio.api.errordetails.v1 import NamespaceNotFoundFailure
from temporalio.client import RPCTimeoutOrCancelledError
from temporalio.service import RPCError, RPCStatusCode

from tracker.errors import (
    ConfigurationError,
    Conflict,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    TemporalUnavailable,
    TrackerError,
)

CALL_SECONDS = 5.0
"""What one call gets unless its caller knows better; a local one takes milliseconds."""


class NoAnswer(TemporalUnavailable):
    """Temporal, or the worker that it asked for us, did not answer in time; what was asked may have
    been done."""


@asynccontextmanager
async def bounded_call(seconds: float = CALL_SECONDS) -> AsyncGenerator[None]:
    """Bound what happens inside, and turn "cannot connect" and "no answer" into one error.

    Raises:
        NoAnswer: Time is up.
        TemporalUnavailable: Temporal cannot be reached.
        RPCError: What Temporal answered, as it is.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except (TimeoutError, RPCTimeoutOrCancelledError) as error:
        raise NoAnswer(f"no answer within {seconds:g} s; try again") from error
    except RuntimeError as error:
        if not str(error).startswith(_LAZY_CONNECT_FAILED):
            raise
        raise unavailable(str(error)) from error


def translate(error: RPCError) -> TrackerError:
    """Our error for what Temporal answered."""
    if is_too_large(error):
        return PayloadTooLarge(f"Temporal refuses the size of the request: {error.message}")
    kind = _KINDS.get(error.status)
    if kind is not None:
        return kind(error.message)
    if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
        return ConfigurationError(f"Temporal refuses our credentials: {error.message}")
    return unavailable(f"{error.status.name}: {error.message}")


def is_too_large(error: RPCError) -> bool:
    """Whether a request can never pass: a value over the blob limit (2 MB), or a message over that
    of gRPC (4 MB), which looks like a rate limit otherwise."""
    if error.status is RPCStatusCode.RESOURCE_EXHAUSTED:
        return "larger than max" in error.message
    return error.status is RPCStatusCode.INVALID_ARGUMENT and "size exceeds limit" in error.message


def is_unknown_run(error: RPCError) -> bool:
    """Whether Temporal says that it has no such run; of a namespace that it does not know it says
    nothing about runs."""
    if error.status is not RPCStatusCode.NOT_FOUND:
        return False
    return not any(d.Is(NamespaceNotFoundFailure.DESCRIPTOR) for d in error.grpc_status.details)


def unavailable(cause: str) -> TemporalUnavailable:
    """The error for a Temporal that gives no usable answer now."""
    return TemporalUnavailable(
        "Temporal cannot be reached or did not answer in time; try again", cause=cause
    )


_LAZY_CONNECT_FAILED = "Failed client connect"
_KINDS: dict[RPCStatusCode, type[TrackerError]] = {
    RPCStatusCode.NOT_FOUND: NotFound,
    RPCStatusCode.INVALID_ARGUMENT: InvalidRequest,
    RPCStatusCode.ALREADY_EXISTS: Conflict,
    RPCStatusCode.FAILED_PRECONDITION: Conflict,
}
