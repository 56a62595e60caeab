"""Every failure as one body shape, and the only place that knows HTTP statuses.

`{"error": CODE, "message": …, "class": "invalid" | "transient" | "fatal", "details": {…}}`; codes
are those of `tracker.errors`, and HTTP's own failures borrow the nearest one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from tracker.errors import (
    ChangesGone,
    Conflict,
    DatabaseUnavailable,
    ErrorClass,
    FatalError,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    TrackerError,
    TransientError,
)
from tracker.models.wire import ErrorBody

logger = logging.getLogger(__name__)

# The first class that an error is an instance of decides.
STATUSES: tuple[tuple[type[TrackerError], HTTPStatus], ...] = (
    (NotAuthenticated, HTTPStatus.UNAUTHORIZED),
    (NotAllowed, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (Conflict, HTTPStatus.CONFLICT),
    (PayloadTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (ChangesGone, HTTPStatus.GONE),
    (InvalidRequest, HTTPStatus.UNPROCESSABLE_ENTITY),
    (RateLimited, HTTPStatus.TOO_MANY_REQUESTS),
    (TransientError, HTTPStatus.SERVICE_UNAVAILABLE),
    (FatalError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
RETRY_AFTER_SECONDS = 1
READS = (NotAuthenticated, NotAllowed, InvalidRequest, RateLimited, DatabaseUnavailable)
"""What every route that reads may fail with."""
_OF_HTTP = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "payload_too_large",
}


def register(app: FastAPI) -> None:
    """Make the app answer failures in our shape. What nobody expected is caught further out, by
    `api.middleware.RequestContext`."""
    app.add_exception_handler(TrackerError, _tracker_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def status_of(error: TrackerError) -> HTTPStatus | None:
    """The HTTP status of an error; None for one of which only the log may tell more."""
    return next((status for known, status in STATUSES if isinstance(error, known)), None)


def error_response(
    status: int,
    code: str,
    message: str,
    error_class: ErrorClass,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An error in the one shape. ASCII only: what a request held may not be encodable otherwise."""
    body = {"error": code, "message": message, "class": error_class, "details": details or {}}
    return Response(
        json.dumps(body, default=str).encode("ascii"),
        status,
        media_type="application/json",
        headers=dict(headers or {}),
    )


def declared(*errors: type[TrackerError]) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route: every status that it may fail with, and the codes behind it."""
    codes: dict[int | str, list[str]] = {}
    for error in errors:
        status = next(int(status) for known, status in STATUSES if issubclass(error, known))
        codes.setdefault(status, []).append(error.code)
    return {
        status: {
            "model": ErrorBody,
            "description": f"{HTTPStatus(int(status)).phrase}: {', '.join(of_status)}",
        }
        for status, of_status in sorted(codes.items(), key=str)
    }


async def _tracker_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TrackerError)
    status = status_of(error)
    if status is None:
        raise error
    headers: dict[str, str] = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        headers["Retry-After"] = str(error.details.get("retry_after", RETRY_AFTER_SECONDS))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.warning(
            "%s: %s", error.code, error.message, extra={"event": "request.failed", **_cause(error)}
        )
    # The driver's words are for the log: they may name hosts, users and tables.
    details = {name: value for name, value in error.details.items() if name != "cause"}
    return error_response(status, error.code, error.message, error.error_class, details, headers)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [_problem(problem) for problem in error.errors()]
    first = problems[0]
    message = f"{first['field']}: {first['problem']}" if first["field"] else first["problem"]
    return error_response(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        InvalidRequest.code,
        message,
        "invalid",
        {"field": first["field"], "problems": problems},
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code = _OF_HTTP.get(status, InvalidRequest.code)
    message = {
        HTTPStatus.NOT_FOUND: f"there is no {request.url.path}; /docs lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible here",
    }.get(status, str(error.detail))
    return error_response(status, code, message, "invalid", headers=error.headers)


def first_problem(error: ValidationError) -> str:
    """What is wrong first, in a line, where no request of FastAPI's is."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{field}: {message}" if field else message


def _problem(problem: Mapping[str, Any]) -> dict[str, str]:
    # Neither input nor context: they echo what was sent, which may be large, secret or no JSON.
    if problem["type"] == "json_invalid":
        return {"field": "", "problem": f"the body is no JSON: {problem['ctx']['error']}"}
    message = str(problem["msg"]).removeprefix("Value error, ")
    return {"field": _field(problem["loc"]), "problem": message}


def _field(location: Sequence[Any]) -> str:
    """`("body", "priority", "priority_key")` → `priority.priority_key`."""
    parts: Iterable[Any] = location[1:] if location and location[0] in _PLACES else location
    return ".".join(str(part) for part in parts)


_PLACES = ("body", "query", "path", "header")


def _cause(error: TrackerError) -> dict[str, Any]:
    return {"cause": error.details["cause"]} if "cause" in error.details else {}
