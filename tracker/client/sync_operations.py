"""The part of the sync client for whoever operates the tracker; as in `async_operations`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, Unpack

from tracker.client import operation_calls as calls
from tracker.client.calls import Call, next_page
from tracker.client.options import AuditFilters
from tracker.models.audit import AuditEntry, AuditPage
from tracker.models.queues import Queues, Workers

T = TypeVar("T")


class Operations(ABC):
    """What a client can find out about queues, workers and what people did."""

    @abstractmethod
    def _send(self, call: Call[T]) -> T: ...

    def queues(self, task_queue: str | Sequence[str] | None = None) -> Queues:
        """Task queues, who polls them and what waits; of those given, or of all that are known."""
        return self._send(calls.queues(task_queue))

    def workers(self, task_queue: str | Sequence[str] | None = None) -> Workers:
        """Workers that polled lately, and what; of the queues given, or of all that are known."""
        return self._send(calls.workers(task_queue))

    def audit(self, **filters: Unpack[AuditFilters]) -> AuditPage:
        """One page of what was done by whom, newest first; see `AuditFilters`. Scope `admin`."""
        return self._send(calls.audit(filters))

    def iter_audit(self, **filters: Unpack[AuditFilters]) -> Iterator[AuditEntry]:
        """All entries that match, page after page; `limit` is the size of a page."""
        call = calls.audit(filters)
        while call is not None:
            page = self._send(call)
            yield from page.entries
            call = next_page(call, page)
