"""The part of the blocking client that acts on runs, one or many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, Unpack

from tracker.client import control_calls as calls
from tracker.client.calls import Call, RunId, next_page
from tracker.client.options import UNSET, BulkOptions, ResetOptions, RunFilters
from tracker.models.control import (
    BulkItemPage,
    BulkItemRead,
    BulkPage,
    BulkPreview,
    BulkRead,
    ResetAnswer,
)
from tracker.models.wire import CallAnswer, ControlAnswer, RunRead, StartedRun

T = TypeVar("T")


class RunActions(ABC):
    """What a client can do to runs."""

    @abstractmethod
    def _send(self, call: Call[T]) -> T: ...

    def cancel(self, run_id: RunId, *, reason: str | None = None) -> ControlAnswer:
        """Ask the run to end; a run that Temporal does not have yet is canceled at once."""
        return self._send(calls.control("cancel", run_id, reason))

    def terminate(self, run_id: RunId, *, reason: str | None = None) -> ControlAnswer:
        """End the run without asking it."""
        return self._send(calls.control("terminate", run_id, reason))

    def signal(
        self, run_id: RunId, name: str, *args: Any, reason: str | None = None
    ) -> ControlAnswer:
        """Send a signal."""
        return self._send(calls.signal(run_id, name, args, reason))

    def query(self, run_id: RunId, name: str, *args: Any) -> Any:
        """Ask the workflow's code a question; returns its answer."""
        return self._send(calls.query(run_id, name, args))

    def update(
        self,
        run_id: RunId,
        name: str,
        *args: Any,
        update_id: str | None = None,
        wait: float = 30.0,
        reason: str | None = None,
    ) -> CallAnswer:
        """Send an update and wait at most `wait` seconds (up to 60) for its result; an answer with
        `done` False can be asked for again by its `update_id`."""
        return self._send(
            calls.update(run_id, name, args, update_id=update_id, wait=wait, reason=reason)
        )

    def rerun(
        self,
        run_id: RunId,
        input: Any = UNSET,
        *,
        args: Sequence[Any] | None = None,
        idempotency_key: str | None = None,
        reason: str | None = None,
    ) -> StartedRun:
        """Run a run again from its beginning, with its own input unless another one is given; an
        idempotency key makes that happen once.

        Raises:
            InputNotAvailable: Its own input is gone; give one.
        """
        return self._send(
            calls.rerun(run_id, input, args=args, idempotency_key=idempotency_key, reason=reason)
        )

    def reset(self, run_id: RunId, **options: Unpack[ResetOptions]) -> ResetAnswer:
        """Let a run go on, in a new run, from the step that failed last, or from another point;
        see `ResetOptions`. `repeats` names completed steps that run once more."""
        return self._send(calls.reset(run_id, options))

    def pause(self, run_id: RunId, *, reason: str | None = None) -> ControlAnswer:
        """Let a run decide nothing until it is unpaused."""
        return self._send(calls.control("pause", run_id, reason))

    def unpause(self, run_id: RunId, *, reason: str | None = None) -> ControlAnswer:
        """Let a paused run go on."""
        return self._send(calls.control("unpause", run_id, reason))

    def pause_step(
        self, run_id: RunId, step_id: RunId, *, reason: str | None = None
    ) -> ControlAnswer:
        """Let no further attempt of an activity begin."""
        return self._send(calls.control_step("pause", run_id, step_id, reason))

    def unpause_step(
        self,
        run_id: RunId,
        step_id: RunId,
        *,
        reset_attempts: bool = False,
        reason: str | None = None,
    ) -> ControlAnswer:
        """Let a paused activity go on, at once."""
        return self._send(
            calls.unpause_step(run_id, step_id, reset_attempts=reset_attempts, reason=reason)
        )

    def retry_step(
        self, run_id: RunId, step_id: RunId, *, reason: str | None = None
    ) -> ControlAnswer:
        """Try an activity that backs off now, and count its attempts from 1 again."""
        return self._send(calls.control_step("retry", run_id, step_id, reason))

    def patch_metadata(
        self, run_id: RunId, metadata: Mapping[str, Any], *, reason: str | None = None
    ) -> RunRead:
        """Set keys of a run's metadata; None takes a key away, what is not named stays."""
        return self._send(calls.patch_metadata(run_id, metadata, reason))

    def preview_bulk(
        self, action: str, filters: RunFilters, **options: Unpack[BulkOptions]
    ) -> BulkPreview:
        """How many runs a bulk action would take, and the first of them."""
        return self._send(calls.preview_bulk(action, filters, options))

    def start_bulk(
        self, action: str, filters: RunFilters, **options: Unpack[BulkOptions]
    ) -> BulkRead:
        """Cancel, terminate, signal, rerun or reset every run of a filter, in the background."""
        return self._send(calls.start_bulk(action, filters, options))

    def get_bulk(self, bulk_id: RunId) -> BulkRead:
        """A bulk action and how far it is."""
        return self._send(calls.get_bulk(bulk_id))

    def list_bulks(self, *, limit: int | None = None, cursor: str | None = None) -> BulkPage:
        """One page of bulk actions, newest first."""
        return self._send(calls.list_bulks(limit, cursor))

    def iter_bulks(self, *, limit: int | None = None) -> Iterator[BulkRead]:
        """All bulk actions, page after page; `limit` is the size of a page."""
        call = calls.list_bulks(limit, None)
        while call is not None:
            page = self._send(call)
            yield from page.bulks
            call = next_page(call, page)

    def bulk_items(
        self,
        bulk_id: RunId,
        *,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> BulkItemPage:
        """One page of the runs of a bulk action."""
        return self._send(calls.bulk_items(bulk_id, status, limit, cursor))

    def iter_bulk_items(
        self, bulk_id: RunId, *, status: str | None = None
    ) -> Iterator[BulkItemRead]:
        """All runs of a bulk action and what became of each; `status="failed"`: what went wrong."""
        call = calls.bulk_items(bulk_id, status, None, None)
        while call is not None:
            page = self._send(call)
            yield from page.items
            call = next_page(call, page)

    def cancel_bulk(self, bulk_id: RunId, *, reason: str | None = None) -> BulkRead:
        """Stop a bulk action; runs that it has dealt with stay dealt with."""
        return self._send(calls.cancel_bulk(bulk_id, reason))
