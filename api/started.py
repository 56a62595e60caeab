"""What a caller is told of a start, be it a new run or one that repeats another."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from tracker.errors import (
    IdempotencyConflict,
    InvalidRequest,
    PayloadTooLarge,
    StartRejected,
    UnknownWorkflowType,
)
from tracker.models.wire import RunRead, StartedRun
from tracker.temporal.start_service import StartOutcome, StartResult

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "model": StartedRun,
        "description": "The idempotency key, or the workflow id, names this run.",
    },
    202: {
        "model": StartedRun,
        "description": "Accepted; Temporal did not answer, the run starts later.",
    },
}
"""The `responses=` of a route that starts, beside 201."""
FAILURES = (UnknownWorkflowType, IdempotencyConflict, StartRejected, PayloadTooLarge)


def one_key(header: str | None, body: str | None) -> str | None:
    """The idempotency key of a request, which may stand in its header or its body.

    Raises:
        InvalidRequest: Both are given and differ.
    """
    if header is not None and body not in (None, header):
        raise InvalidRequest(
            "the header Idempotency-Key and idempotency_key in the body differ; give one",
            field="idempotency_key",
        )
    return body if header is None else header


def started_answer(result: StartResult) -> Response:
    """The answer of a start.

    Raises:
        StartRejected: Temporal refused it for good.
    """
    if result.outcome is StartOutcome.REJECTED:
        raise _rejected(result.run)
    created = result.outcome in (StartOutcome.CREATED, StartOutcome.ACCEPTED)
    # Valid as it is, and written once: FastAPI would check and copy it twice more.
    answer = StartedRun.model_construct(**dict(result.run), created=created)
    return Response(
        answer.model_dump_json(by_alias=True),
        status_code=_STATUS_OF[result.outcome],
        media_type="application/json",
    )


def _rejected(run: RunRead) -> StartRejected:
    reason = "" if run.error is None else run.error.message or run.error.type
    return StartRejected(
        f"Temporal refuses this start: {reason}",
        run_id=str(run.run_id),
        type=None if run.error is None else run.error.type,
        duplicate_of=None if run.duplicate_of is None else str(run.duplicate_of),
    )


_STATUS_OF = {
    StartOutcome.CREATED: 201,
    StartOutcome.ACCEPTED: 202,
    StartOutcome.EXISTING: 200,
    StartOutcome.DUPLICATE: 200,
}
