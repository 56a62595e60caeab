"""The blocking client: `calls` made with `httpx.Client`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar, Unpack, cast, overload

import httpx
from tenacity import Retrying

from tracker.client import calls
from tracker.client.answers import read_answer, transport_errors
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
from tracker.client.sync_control import RunActions
from tracker.client.sync_live import Live
from tracker.client.sync_operations import Operations
from tracker.client.sync_search import Search
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


class TrackerClient(RunActions, Search, Live, Operations):
    """Client of the tracker's API for blocking code; one per process, safe to share by threads.

    Args:
        base_url: For example `http://localhost:8080`.
        api_key: From `flowtrail keys create`; not needed where the API runs without keys.
        timeout: Seconds for one request, without what the server was asked to wait.
        retries: Further tries, with jittered exponential backoff and `Retry-After`, of calls that
            cannot do harm twice: reads, queries, starts with an idempotency key, updates with an
            update id, and anything that never left (connection refused).
        transport: httpx transport, for tests.
        clock, sleep: Monotonic seconds and the pause between tries, for tests.

    Every method raises a class of `tracker.errors`: the API's own by its code, `ApiUnavailable`
    when it cannot be reached, `InvalidRequest` for arguments that cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 10.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = ConnectionOptions(base_url, api_key, timeout, retries)
        self._http = httpx.Client(transport=transport, **self._options.http_arguments())
        self._clock = clock
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.base_url!r})"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def start_workflow(
        self, workflow_type: str, input: Any = UNSET, **options: Unpack[StartOptions]
    ) -> StartedRun:
        """Start a workflow; see `StartOptions` for the keyword arguments.

        Without `idempotency_key` a start is not tried again once it was sent: the error says that
        it may have been carried out, and only the caller knows whether a second run does harm.

        Args:
            workflow_type: Name or alias.
            input: The workflow's single argument: JSON-able, a pydantic model or a dataclass.

        Returns:
            The run: status `running`, or `accepted` while Temporal is away; `created` is False
            where an idempotency key or workflow id named an existing run.
        """
        return self._send(calls.start_workflow(workflow_type, input, options))

    def get_run(self, run_id: RunId) -> RunDetail:
        """A run with its steps, attempts and values; `run_id` is ours or Temporal's."""
        return self._send(calls.get_run(run_id))

    def get_step(self, run_id: RunId, step_id: RunId) -> StepDetail:
        """A step with its attempts and values."""
        return self._send(calls.get_step(run_id, step_id))

    def timeline(self, run_id: RunId) -> Timeline:
        """What happened in a run, oldest first."""
        return self._send(calls.timeline(run_id))

    def list_runs(self, **filters: Unpack[RunFilters]) -> RunPage:
        """One page of the runs that match, newest first; see `RunFilters`."""
        return self._send(calls.list_runs(filters))

    def iter_runs(self, **filters: Unpack[RunFilters]) -> Iterator[RunRead]:
        """All runs that match, page after page; `limit` is the size of a page."""
        call = calls.list_runs(filters)
        while call is not None:
            page = self._send(call)
            yield from page.runs
            call = calls.next_page(call, page)

    def runs_by_ref(
        self, ref: RefLike, *, limit: int | None = None, cursor: str | None = None
    ) -> RefOverview:
        """Everything of one business object: its workflows, and a page of its runs."""
        return self._send(calls.runs_by_ref(ref, limit, cursor))

    def iter_runs_by_ref(self, ref: RefLike, *, limit: int | None = None) -> Iterator[RunRead]:
        """All runs of one business object, page after page; `limit` is the size of a page."""
        call = calls.runs_by_ref(ref, limit, None)
        while call is not None:
            page = self._send(call)
            yield from page.runs
            call = calls.next_page(call, page)

    def list_workflows(self, **filters: Unpack[WorkflowFilters]) -> WorkflowPage:
        """One page of workflows (a type for one ref, over all its runs)."""
        return self._send(calls.list_workflows(filters))

    def iter_workflows(self, **filters: Unpack[WorkflowFilters]) -> Iterator[WorkflowRead]:
        """All workflows that match, page after page; `limit` is the size of a page."""
        call = calls.list_workflows(filters)
        while call is not None:
            page = self._send(call)
            yield from page.workflows
            call = calls.next_page(call, page)

    def workflow_types(self) -> list[WorkflowTypeRead]:
        """The workflow types that workers announced or that were seen in runs."""
        return self._send(calls.workflow_types())

    def stats(self) -> Stats:
        """How far the tables are behind Temporal, and what waits."""
        return self._send(calls.stats())

    @overload
    def result(self, run_id: RunId, *, as_type: type[T], **options: Unpack[ResultOptions]) -> T: ...
    @overload
    def result(
        self, run_id: RunId, *, as_type: Any = ..., **options: Unpack[ResultOptions]
    ) -> Any: ...
    def result(
        self, run_id: RunId, *, as_type: Any = None, **options: Unpack[ResultOptions]
    ) -> Any:
        """Wait for the run's end and return its output; see `ResultOptions` for how long.

        Args:
            as_type: Type to which pydantic validates the output; default: plain JSON.

        Raises:
            RunNotFinished: At the timeout; the run goes on.
            RunFailed: The run ended without a result; subclasses tell how.
            StartRejected: Temporal refused the start.
            OutputNotKept: It completed, but the tracker does not hold the output.
        """
        return self._drive(output_of(run_id, options, as_type, self._clock))

    def ready(self) -> Health:
        """Whether the API can serve; `status` is `ok`, or `degraded` while Temporal is away.

        Raises:
            TrackerError: If the API is not ready, or not there.
        """
        return self._send(calls.ready())

    def _drive(self, flow: Flow[T]) -> T:
        answer: Any = None
        while True:
            try:
                step = flow.send(answer)
            except StopIteration as stop:
                return cast("T", stop.value)
            answer = self._sleep(step.seconds) if isinstance(step, Pause) else self._send(step)

    def _send(self, call: Call[T]) -> T:
        retrying = Retrying(sleep=self._sleep, **retrying_options(call, self._options.retries))
        return cast("T", retrying(self._send_once, call))

    def _send_once(self, call: Call[T]) -> T:
        with transport_errors(self._options.base_url):
            response = self._http.request(**call.http_arguments(self._options.timeout))
        return read_answer(call, response)
