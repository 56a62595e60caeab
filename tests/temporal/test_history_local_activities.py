"""Local activities: the ordinals that markers give back are those that a live count gives."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    StartActivityInput,
    StartLocalActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from tests.temporal import history_workflows as flows
from tests.temporal.projected import Projected, events_of, rows, rows_of
from tests.temporal.running import Handle, finished, start, worker
from tests.waiting import eventually
from tracker.core.ids import local_activity_key
from tracker.core.status import RunStatus, StepKind

Seen = set[tuple[int, str, int]]
"""(ordinal, activity type, attempt) of each local attempt that ran."""


class CountCalls(Interceptor):
    """Numbers the calls of activities of both sorts, as the live side does, and notes what ran."""

    def __init__(self) -> None:
        self.seen: Seen = set()

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _NoteOrdinal(next, self.seen)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        return _Inbound


class _NoteOrdinal(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, seen: Seen) -> None:
        super().__init__(next)
        self._seen = seen

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        info = activity.info()
        if info.is_local:
            ordinal = json.loads(input.headers["ordinal"].data)
            self._seen.add((ordinal, info.activity_type, info.attempt))
        return await super().execute_activity(input)


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound))


class _Outbound(WorkflowOutboundInterceptor):
    calls = 0

    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        self.calls += 1
        return super().start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        self.calls += 1
        ordinal = Payload(metadata={"encoding": b"json/plain"}, data=str(self.calls).encode())
        input.headers = {**input.headers, "ordinal": ordinal}
        return super().start_local_activity(input)


@pytest.fixture
def queue() -> str:
    return f"queue-{uuid4().hex[:8]}"


@pytest.fixture
async def live(temporal_client: Client, queue: str) -> AsyncGenerator[CountCalls]:
    counter = CountCalls()
    async with worker(temporal_client, queue, interceptors=[counter]):
        yield counter


def told(projected: Projected) -> Seen:
    """(ordinal, type, attempt) of each attempt that history shows."""
    return {
        (int(step["step_key"].removeprefix("local:")), step["type"], attempt["number"])
        for step in projected.steps(StepKind.LOCAL_ACTIVITY)
        for attempt in projected.attempts(step)
    }


async def test_ordinals_are_the_live_ones(
    temporal_client: Client, queue: str, live: CountCalls
) -> None:
    handle = await finished(await start(temporal_client, queue, flows.LocalWorkflow.run))
    projected = await rows_of(handle)
    assert projected.run["status"] == RunStatus.COMPLETED
    # Within a round only the last attempt leaves a trace, and none if nobody waited for its end.
    unseen = {(5, "charge", 1), (5, "charge", 2), (9, "nap", 1)}
    assert told(projected) == live.seen - unseen
    named = [s["name"] for s in projected.steps(StepKind.LOCAL_ACTIVITY) if s["name"] != s["type"]]
    assert named == ["short nap"]
    outcomes = {s["step_key"]: s["status"] for s in projected.steps(StepKind.LOCAL_ACTIVITY)}
    assert outcomes == {
        **{local_activity_key(n): "completed" for n in (2, 3, 4, 5, 6)},
        local_activity_key(7): "timed_out",
        local_activity_key(8): "failed",
        local_activity_key(9): "canceled",
    }


async def test_rounds_over_the_threshold_are_one_step(
    temporal_client: Client, queue: str, live: CountCalls
) -> None:
    handle = await finished(await start(temporal_client, queue, flows.LocalWorkflow.run))
    projected = await rows_of(handle)
    over = next(s for s in projected.steps(StepKind.LOCAL_ACTIVITY) if s["attempts"] == 4)
    attempts = projected.attempts(over)
    assert [a["outcome"] for a in attempts] == ["failed", "failed", "failed", "completed"]
    assert [a["error_type"] for a in attempts] == ["CardDeclined"] * 3 + [None]
    assert projected.value(over["output_id"]) == {"charged": 1}
    # Its backoffs are no timers of the workflow's: the one left is its own sleep.
    assert len(projected.steps(StepKind.TIMER)) == 1


async def test_every_prefix_of_a_history_names_the_same_steps(
    temporal_client: Client, queue: str, live: CountCalls
) -> None:
    """A run projected while it was open must not leave rows that its end contradicts."""
    handle = await finished(await start(temporal_client, queue, flows.LocalWorkflow.run))
    events = await events_of(handle)
    whole = rows(events, workflow_id=handle.id, run_key=_key(handle))
    for length in range(1, len(events)):
        prefix = rows(events[:length], workflow_id=handle.id, run_key=_key(handle))
        assert told(prefix) <= told(whole)
        assert prefix.batch.steps.keys() <= whole.batch.steps.keys()


@pytest.mark.parametrize("closed", [True, False])
async def test_calls_without_a_marker_leave_gaps(
    temporal_client: Client, queue: str, live: CountCalls, closed: bool
) -> None:
    handle = await start(
        temporal_client,
        queue,
        flows.UnfinishedLocalsWorkflow.run,
        task_timeout=timedelta(seconds=1),
    )
    # The third marker is the fourth call's; the third call's next round took a number before it.
    await eventually(lambda: _has_markers(handle, 3))
    if closed:
        await handle.terminate()
    projected = await rows_of(handle)
    assert live.seen == {(1, "nap", 1), (2, "nap", 1), (3, "charge", 1), (4, "nap", 1)}
    if closed:
        assert told(projected) == live.seen - {(1, "nap", 1)}
        waiting = projected.step(StepKind.LOCAL_ACTIVITY, "charge")
        assert (waiting["status"], waiting["error_type"]) == ("canceled", "RunClosed")
        return
    # While the run is open, the gap might be the next round's as well as the first call's.
    assert told(projected) == {(2, "nap", 1), (3, "charge", 1)}
    waiting = projected.step(StepKind.LOCAL_ACTIVITY, "charge")
    assert waiting["status"] == "scheduled"
    assert waiting["next_retry_at"] - waiting["started_at"] > timedelta(minutes=50)
    await handle.terminate()


async def _has_markers(handle: Handle, count: int) -> bool:
    events = await events_of(handle)
    kinds = [event.event_type for event in events]
    return kinds.count(EventType.EVENT_TYPE_MARKER_RECORDED) == count


def _key(handle: Handle) -> UUID:
    return UUID(handle.run_id)
