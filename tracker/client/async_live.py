"""The part of the async client that follows what changes; as in `sync_live`."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar, Unpack, cast

import httpx

from tracker.client import live_calls as calls
from tracker.client.answers import is_stream
from tracker.client.calls import Call, RunId
from tracker.client.options import (
    ConnectionOptions,
    Duration,
    ReportOptions,
    StepReportOptions,
    WatchOptions,
    seconds,
)
from tracker.client.watching import RunWatch, Until, Watch, lost_connection, not_yet
from tracker.errors import TransientError
from tracker.models.external import ReportedRun, ReportedStep
from tracker.models.feed import Change, ChangePage, Snapshot, Ticket
from tracker.models.wire import RunRead

T = TypeVar("T")


class AsyncLive(ABC):
    """What a client can watch, and report."""

    _options: ConnectionOptions
    _http: httpx.AsyncClient

    @abstractmethod
    async def _send(self, call: Call[T]) -> T: ...

    async def watch(
        self,
        *,
        after: int | None = None,
        snapshot: int | None = None,
        **options: Unpack[WatchOptions],
    ) -> AsyncGenerator[Change | Snapshot]:
        """What there is, and then each change, for ever; see `TrackerClient.watch`."""
        watch = Watch(calls.watch(after, snapshot, options), self._options.retries)
        while True:
            trouble: TransientError | None = None
            try:
                async with self._http.stream(**watch.request(self._options.timeout)) as answer:
                    if not is_stream(answer):
                        await answer.aread()
                        raise watch.refused(answer)
                    async for text in answer.aiter_text():
                        for told in watch.read(text):
                            yield told
            except httpx.RequestError as error:
                trouble = lost_connection(self._options.base_url, error)
            except TransientError as error:
                trouble = error
            await asyncio.sleep(watch.interrupted(trouble))

    async def wait_for(
        self,
        run_id: RunId,
        until: Until | None = None,
        *,
        timeout: Duration | None = None,  # noqa: ASYNC109
    ) -> RunRead:
        """Wait until a run is as wanted; see `TrackerClient.wait_for`."""
        wanted = RunWatch(until)
        left = None if timeout is None else seconds(timeout)
        try:
            async with asyncio.timeout(left):
                return await self._first(wanted, run_id)
        except TimeoutError as error:
            raise not_yet(run_id, cast("float", left)) from error

    async def _first(self, wanted: RunWatch, run_id: RunId) -> RunRead:
        async with aclosing(self.watch(run=run_id, kinds="run")) as changes:
            async for told in changes:
                if (run := wanted.look(told)) is not None:
                    return run
        raise AssertionError("a watch has no end")

    async def changes(
        self,
        after: int = 0,
        *,
        limit: int | None = None,
        wait: Duration | None = None,
        **options: Unpack[WatchOptions],
    ) -> ChangePage:
        """A page of changes; see `TrackerClient.changes`."""
        patience = None if wait is None else seconds(wait)
        return await self._send(calls.changes(after, limit, patience, options))

    async def ticket(self) -> Ticket:
        """A ticket for one live connection of a browser; see `TrackerClient.ticket`."""
        return await self._send(calls.ticket())

    async def report_run(self, **options: Unpack[ReportOptions]) -> ReportedRun:
        """Report what an externally driven run is doing; see `ReportOptions`."""
        return await self._send(calls.report_run(options))

    async def report_step(
        self, run_id: RunId, name: str, status: str, **options: Unpack[StepReportOptions]
    ) -> ReportedStep:
        """Report what a step of such a run is doing; see `StepReportOptions`."""
        return await self._send(calls.report_step(run_id, name, status, options))
