"""The async client: `calls` made with `httpx.AsyncClient`. Arguments, results and errors are
those of `TrackerClient`, where they are described."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self, TypeVar, Unpack, cast, overload

import httpx
from tenacity import AsyncRetrying

from tracker.client import calls
from tracker.client.answers import read_answer, transport_errors
from tracker.client.async_control import AsyncRunActions
from tracker.client.async_live import AsyncLive
from tracker.client.async_operations import AsyncOperations
from tracker.client.async_search import AsyncSearch
from tracker.client.calls import Call, RunId
from tracker.client.options import (
    UNSET,
    ConnectionOptions,
    RefLike,
    ResultOptions,
    RunFilters,
    StartOptions,
    WorkflowFilters,
)
from tracker.client.retrying import retrying_options
from tracker.client.waiting import Flow, Pause, output_of
from tracker.models.stats import Stats
from tracker.models.wire import (
    Health,
    RefOverview,
    RunDetail,
    RunPage,
    RunRead,
    StartedRun,
    StepDetail,
    Timeline,
    WorkflowPage,
    WorkflowRead,
    WorkflowTypeRead,
)

T = TypeVar("T")


class AsyncTrackerClient(AsyncRunActions, AsyncSearch, AsyncLive, AsyncOperations):
    """`TrackerClient` for asyncio; share one per event loop.

    Args:
        base_url, api_key, timeout, retries, clock: As for `TrackerClient`.
        transport: Async httpx transport, e.g. `httpx.ASGITransport(app)` in tests.
        sleep: Coroutine function that pauses between tries.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 10.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._options = ConnectionOptions(base_url, api_key, timeout, retries)
        self._http = httpx.AsyncClient(transport=transport, **self._options.http_arguments())
        self._clock = clock
        self._sleep = sleep

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.base_url!r})"

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def start_workflow(
        self, workflow_type: str, input: Any = UNSET, **options: Unpack[StartOptions]
    ) -> StartedRun:
        """Start a workflow; see `StartOptions` for the keyword arguments."""
        return await self._send(calls.start_workflow(workflow_type, input, options))

    async def get_run(self, run_id: RunId) -> RunDetail:
        """A run with its steps, attempts and values; `run_id` is ours or Temporal's."""
        return await self._send(calls.get_run(run_id))

    async def get_step(self, run_id: RunId, step_id: RunId) -> StepDetail:
        """A step with its attempts and values."""
        return await self._send(calls.get_step(run_id, step_id))

    async def timeline(self, run_id: RunId) -> Timeline:
        """What happened in a run, oldest first."""
        return await self._send(calls.timeline(run_id))

    async def list_runs(self, **filters: Unpack[RunFilters]) -> RunPage:
        """One page of the runs that match, newest first; see `RunFilters`."""
        return await self._send(calls.list_runs(filters))

    async def iter_runs(self, **filters: Unpack[RunFilters]) -> AsyncIterator[RunRead]:
        """All runs that match, page after page; `limit` is the size of a page."""
        call = calls.list_runs(filters)
        while call is not None:
            page = await self._send(call)
            for run in page.runs:
                yield run
            call = calls.next_page(call, page)

    async def runs_by_ref(
        self, ref: RefLike, *, limit: int | None = None, cursor: str | None = None
    ) -> RefOverview:
        """Everything of one business object: its workflows, and a page of its runs."""
        return await self._send(calls.runs_by_ref(ref, limit, cursor))

    async def iter_runs_by_ref(
        self, ref: RefLike, *, limit: int | None = None
    ) -> AsyncIterator[RunRead]:
        """All runs of one business object, page after page; `limit` is the size of a page."""
        call = calls.runs_by_ref(ref, limit, None)
        while call is not None:
            page = await self._send(call)
            for run in page.runs:
                yield run
            call = calls.next_page(call, page)

    async def list_workflows(self, **filters: Unpack[WorkflowFilters]) -> WorkflowPage:
        """One page of workflows (a type for one ref, over all its runs)."""
        return await self._send(calls.list_workflows(filters))

    async def iter_workflows(
        self, **filters: Unpack[WorkflowFilters]
    ) -> AsyncIterator[WorkflowRead]:
        """All workflows that match, page after page; `limit` is the size of a page."""
        call = calls.list_workflows(filters)
        while call is not None:
            page = await self._send(call)
            for workflow in page.workflows:
                yield workflow
            call = calls.next_page(call, page)

    async def workflow_types(self) -> list[WorkflowTypeRead]:
        """The workflow types that workers announced or that were seen in runs."""
        return await self._send(calls.workflow_types())

    async def stats(self) -> Stats:
        """How far the tables are behind Temporal, and what waits."""
        return await self._send(calls.stats())

    @overload
    async def result(
        self, run_id: RunId, *, as_type: type[T], **options: Unpack[ResultOptions]
    ) -> T: ...
    @overload
    async def result(
        self, run_id: RunId, *, as_type: Any = ..., **options: Unpack[ResultOptions]
    ) -> Any: ...
    async def result(
        self, run_id: RunId, *, as_type: Any = None, **options: Unpack[ResultOptions]
    ) -> Any:
        """Wait for the run's end and return its output; see `TrackerClient.result`."""
        return await self._drive(output_of(run_id, options, as_type, self._clock))

    async def ready(self) -> Health:
        """Whether the API can serve; `status` is `ok`, or `degraded` while Temporal is away."""
        return await self._send(calls.ready())

    async def _drive(self, flow: Flow[T]) -> T:
        answer: Any = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as stop:
                return cast("T", stop.value)
            if isinstance(step, Pause):
                answer = await self._sleep(step.seconds)
            else:
                answer = await self._send(step)

    async def _send(self, call: Call[T]) -> T:
        retrying = AsyncRetrying(sleep=self._sleep, **retrying_options(call, self._options.retries))
        return cast("T", await retrying(self._send_once, call))

    async def _send_once(self, call: Call[T]) -> T:
        with transport_errors(self._options.base_url):
            response = await self._http.request(**call.http_arguments(self._options.timeout))
        return read_answer(call, response)
