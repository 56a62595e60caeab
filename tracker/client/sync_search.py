"""The part of the blocking client that looks across runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TypeVar, Unpack

from tracker.client import search_calls as calls
from tracker.client.calls import Call, next_page
from tracker.client.options import Duration, FailureFilters, StepFilters
from tracker.models.search import (
    FailedStepRead,
    Failures,
    StepPage,
    WorkflowGraph,
    WorkflowStats,
)

T = TypeVar("T")


class Search(ABC):
    """What a client can find out across runs."""

    @abstractmethod
    def _send(self, call: Call[T]) -> T: ...

    def failed_steps(self, **filters: Unpack[StepFilters]) -> StepPage:
        """One page of steps that have failed at least once, across runs; see `StepFilters`."""
        return self._send(calls.failed_steps(filters))

    def iter_failed_steps(self, **filters: Unpack[StepFilters]) -> Iterator[FailedStepRead]:
        """All steps that match, page after page; `limit` is the size of a page."""
        call = calls.failed_steps(filters)
        while call is not None:
            page = self._send(call)
            yield from page.steps
            call = next_page(call, page)

    def failures(self, **filters: Unpack[FailureFilters]) -> Failures:
        """What steps fail of, grouped; a group's `failure` is a filter of runs and bulk actions."""
        return self._send(calls.failures(filters))

    def workflow_stats(
        self, *, window: Duration | None = None, workflow_type: str | None = None
    ) -> WorkflowStats:
        """Volume, failure rate and times of workflow types and their steps, over the last day
        unless `window` says otherwise."""
        return self._send(calls.workflow_stats(window, workflow_type))

    def workflow_graph(
        self, workflow_type: str, *, window: Duration | None = None
    ) -> WorkflowGraph:
        """In which order the steps of a type follow each other, over the last week unless `window`
        says otherwise."""
        return self._send(calls.workflow_graph(workflow_type, window))
