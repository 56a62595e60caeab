"""The calls of whoever operates the tracker; see `calls`."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.client.calls import Call, checked, get, given, listed, params
from tracker.client.options import AuditFilters
from tracker.models.audit import AuditFilter, AuditPage
from tracker.models.queues import QueueFilter, Queues, Workers


def queues(task_queue: str | Sequence[str] | None) -> Call[Queues]:
    """`GET /v1/queues`."""
    fields = listed(given({"task_queue": task_queue}), "task_queue")
    return get("/v1/queues", Queues, params(checked(QueueFilter, **fields)))


def workers(task_queue: str | Sequence[str] | None) -> Call[Workers]:
    """`GET /v1/workers`."""
    fields = listed(given({"task_queue": task_queue}), "task_queue")
    return get("/v1/workers", Workers, params(checked(QueueFilter, **fields)))


def audit(filters: AuditFilters) -> Call[AuditPage]:
    """`GET /v1/audit`.

    Raises:
        InvalidRequest: If a filter is unknown or out of range, or a time has no zone.
    """
    return get("/v1/audit", AuditPage, params(checked(AuditFilter, **given(filters))))
