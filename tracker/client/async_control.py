"""The part of the async client that acts on runs; arguments and results as in `sync_control`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
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


class AsyncRunActions(ABC):
    """What a client can do to runs."""

    @abstractmethod
    async def _send(self, call: Call[T]) -> T: ...

    async def cancel(self, run_id: RunId, *, reason: str | None = None) -> ControlAnswer:
        """Ask the run to end; a run that Temporal does not have yet is canceled at once."""
        return await self._send(calls.control("cancel", run_id, reason))

    async def terminate(self, run_id: RunId, *, reason: str | None = None) -> ControlAnswer:
        """End the run without asking it."""
        return await self._send(calls.control("terminate", run_id, reason))

    async def signal(
        self, run_id: RunId, name: str, *args: Any, reason: str | None = None
    ) -> ControlAnswer:
        """Send a signal."""
        return await self._send(calls.signal(run_id, name, args, reason))

    async def query(self, run_id: RunId, name: str, *args: Any) -> Any:
        """Ask the workflow's code a question; returns its answer."""
        return await self._send(calls.query(run_id, name, args))

    async def update(
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
        return await self._send(
            calls.update(run_id, name, args, update_id=update_id, wait=wait, reason=reason)
        )

    async def rerun(
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
        return await self._send(
            calls.rerun(run_id, input, args=args, idempotency_key=idempotency_key, reason=reason)
        )

    async def reset(self, run_id: RunId, **options: Unpack[ResetOptions]) -> ResetAnswer:
        """Let a run go on, in a new run, from the step that failed last, or from another point;
        see `ResetOptions`. `repeats` names completed steps that run once more."""
        return await self._send(calls.reset(run_id, options))

    async def pause(self, run_id: RunId, *, reason: str | None = None) -> ControlAnswer:
        """Let a run decide nothing until it is unpaused."""
        return await self._send(calls.control("pause", run_id, reason))

    async def unpause(self, run_id: RunId, *, reason: str | None = None) -> ControlAnswer:
        """Let a paused run go on."""
        return await self._send(calls.control("unpause", run_id, reason))

    async def pause_step(
        self, run_id: RunId, step_id: RunId, *, reason: str | None = None
    ) -> ControlAnswer:
        """Let no further attempt of an activity begin."""
        return await self._send(calls.control_step("pause", run_id, step_id, reason))

    async def unpause_step(
        self,
        run_id: RunId,
        step_id: RunId,
        *,
        reset_attempts: bool = False,
        reason: str | None = None,
    ) -> ControlAnswer:
        """Let a paused activity go on, at once."""
        return await self._send(
            calls.unpause_step(run_id, step_id, reset_attempts=reset_attempts, reason=reason)
        )

    async def retry_step(
        self, run_id: RunId, step_id: RunId, *, reason: str | None = None
    ) -> ControlAnswer:
        """Try an activity that backs off now, and count its attempts from 1 again."""
        return await self._send(calls.control_step("retry", run_id, step_id, reason))

    async def patch_metadata(
        self, run_id: RunId, metadata: Mapping[str, Any], *, reason: str | None = None
    ) -> RunRead:
        """Set keys of a run's metadata; None takes a key away, what is not named stays."""
        return await self._send(calls.patch_metadata(run_id, metadata, reason))

    async def preview_bulk(
        self, action: str, filters: RunFilters, **options: Unpack[BulkOptions]
    ) -> BulkPreview:
        """How many runs a bulk action would take, and the first of them."""
        return await self._send(calls.preview_bulk(action, filters, options))

    async def start_bulk(
        self, action: str, filters: RunFilters, **options: Unpack[BulkOptions]
    ) -> BulkRead:
        """Cancel, terminate, signal, rerun or reset every run of a filter, in the background."""
        return await self._send(calls.start_bulk(action, filters, options))

    async def get_bulk(self, bulk_id: RunId) -> BulkRead:
        """A bulk action and how far it is."""
        return await self._send(calls.get_bulk(bulk_id))

    async def list_bulks(self, *, limit: int | None = None, cursor: str | None = None) -> BulkPage:
        """One page of bulk actions, newest first."""
        return await self._send(calls.list_bulks(limit, cursor))

    async def iter_bulks(self, *, limit: int | None = None) -> AsyncIterator[BulkRead]:
        """All bulk actions, page after page; `limit` is the size of a page."""
        call = calls.list_bulks(limit, None)
        while call is not None:
            page = await self._send(call)
            for bulk in page.bulks:
                yield bulk
            call = next_page(call, page)

    async def bulk_items(
        self,
        bulk_id: RunId,
        *,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> BulkItemPage:
        """One page of the runs of a bulk action."""
        return await self._send(calls.bulk_items(bulk_id, status, limit, cursor))

    async def iter_bulk_items(
        self, bulk_id: RunId, *, status: str | None = None
    ) -> AsyncIterator[BulkItemRead]:
        """All runs of a bulk action and what became of each; `status="failed"`: what went wrong."""
        call = calls.bulk_items(bulk_id, status, None, None)
        while call is not None:
            page = await self._send(call)
            for item in page.items:
                yield item
            call = next_page(call, page)

    async def cancel_bulk(self, bulk_id: RunId, *, reason: str | None = None) -> BulkRead:
        """Stop a bulk action; runs that it has dealt with stay dealt with."""
        return await self._send(calls.cancel_bulk(bulk_id, reason))
