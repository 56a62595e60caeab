"""Answers of the API into values, failures into the classes of `tracker.errors`.

The class is found by the error's `code`; a code that this version does not know (a newer server)
falls back to its `class`. What does not come from the API at all, such as a proxy's error page,
becomes `ApiUnavailable` or `UnexpectedAnswer`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TypeVar, cast

import httpx
from pydantic import ValidationError

from tracker import errors
from tracker.client.calls import Call
from tracker.errors import (
    ApiUnavailable,
    FatalError,
    InvalidRequest,
    NotFound,
    TrackerError,
    TransientError,
    UnexpectedAnswer,
)
from tracker.models.wire import ErrorBody

T = TypeVar("T")

EVENTS = "text/event-stream"


def read_answer(call: Call[T], response: httpx.Response) -> T:
    """What the call was made for.

    Raises:
        TrackerError: The API's error as the class that its code names. `details` also has
            `http_status`, `request_id` and, where the server asked for it, `retry_after` seconds.
    """
    if not response.is_success:
        error = _error(response)
        if call.absent_is_none and isinstance(error, NotFound):
            return cast("T", None)
        raise error
    try:
        return call.read(response.content)
    except ValidationError as error:
        raise UnexpectedAnswer(
            f"{call.method} {call.path} was answered in a form that this version of the client "
            "does not understand; check base_url and the versions of client and server",
            cause=str(error).splitlines()[0],
        ) from error


def is_stream(response: httpx.Response) -> bool:
    """Whether events follow; else read it, and raise `Watch.refused`."""
    return response.is_success and response.headers.get("Content-Type", "").startswith(EVENTS)


def failed_stream(response: httpx.Response) -> TrackerError:
    """The API's error in place of a stream, as `read_answer` raises it."""
    if not response.is_success:
        return _error(response)
    return UnexpectedAnswer(
        f"GET {response.url.path} was answered with a page, not with events; check base_url"
    )


@contextmanager
def transport_errors(base_url: str) -> Generator[None]:
    """Turn httpx's errors into ours; `details["sent"]` tells whether the request may have been
    carried out."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise ApiUnavailable(
            f"the API at {base_url} cannot be reached; check that it runs and that the address "
            "is right",
            sent=False,
            cause=str(error) or type(error).__name__,
        ) from error
    except httpx.RequestError as error:
        raise ApiUnavailable(
            f"the API at {base_url} did not answer; the request may have been carried out",
            sent=True,
            cause=str(error) or type(error).__name__,
        ) from error


def _error(response: httpx.Response) -> TrackerError:
    facts = {"http_status": response.status_code, **_headers(response)}
    try:
        body = ErrorBody.model_validate_json(response.content)
    except ValidationError:
        return _foreign_error(response, facts)
    error_type = _BY_CODE.get(body.error)
    if error_type is None:
        error_type, facts["code"] = _BY_CLASS[body.error_class], body.error
    error = error_type(body.message)
    error.details |= body.details | facts
    return error


def _foreign_error(response: httpx.Response, facts: dict[str, object]) -> TrackerError:
    status = f"{response.status_code} {response.reason_phrase}".strip()
    where = f"{response.request.method} {response.request.url.path}"
    if response.status_code in (429, 502, 503, 504):
        return ApiUnavailable(
            f"{where}: {status}, not from the tracker's API; try again", sent=True, **facts
        )
    return UnexpectedAnswer(
        f"{where}: {status}, not from the tracker's API; check base_url", **facts
    )


def _headers(response: httpx.Response) -> dict[str, object]:
    request_id, after = response.headers.get("X-Request-Id"), _retry_after(response)
    facts = {"request_id": request_id, "retry_after": after}
    return {name: value for name, value in facts.items() if value is not None}


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of `Retry-After` (RFC 9110 §10.2.3); a date counts from the answer's own `Date`, so
    that a wrong clock on this side does not matter."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        due = parsedate_to_datetime(value)
        now = parsedate_to_datetime(response.headers.get("Date", ""))
        return max(0.0, (due - now).total_seconds())
    except (ValueError, TypeError):
        return None


# Of that module alone: other parts of the library refine some classes without a code of their own.
_BY_CODE: dict[str, type[TrackerError]] = {
    error_type.code: error_type
    for error_type in vars(errors).values()
    if isinstance(error_type, type) and issubclass(error_type, TrackerError)
}
_BY_CLASS: dict[str, type[TrackerError]] = {
    "invalid": InvalidRequest,
    "transient": TransientError,
    "fatal": FatalError,
}
