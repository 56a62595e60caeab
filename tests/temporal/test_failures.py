"""One error, caught live and read from history, is told alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import nexusrpc
import pytest
from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure as FailureProto
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.converter import DataConverter, DefaultFailureConverter
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    ServerError,
    TerminatedError,
    TimeoutError,
    TimeoutType,
)
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from tests.temporal.projected import events_of
from tests.temporal.running import finished, start, worker
from tracker.core.events import Failure
from tracker.temporal.failures import failure_from_exception, failure_from_proto


class OutOfStock(Exception):
    """A plain exception."""


class OutOfStockHere(OutOfStock):
    """A subclass of it."""


def chained(error: Exception, cause: Exception) -> Exception:
    try:
        raise error from cause
    except Exception as raised:
        return raised


ERRORS: dict[str, Callable[[], Exception]] = {
    "plain": lambda: OutOfStock("no tea"),
    "subclass": lambda: OutOfStockHere("no tea here"),
    "empty": lambda: OutOfStock(),
    "not text": lambda: OutOfStock({"left": 0}, 7),
    "typed": lambda: ApplicationError("no tea", type="NoTea"),
    "untyped": lambda: ApplicationError("no tea", non_retryable=True),
    "from a cause": lambda: chained(OutOfStock("no tea"), ValueError("no leaves")),
    "typed from a cause": lambda: chained(ApplicationError("no tea"), KeyError("leaves")),
    "control characters": lambda: OutOfStock("no \x00 tea"),
}


@activity.defn
async def explode(kind: str) -> None:
    raise ERRORS[kind]()


@activity.defn
async def hang() -> None:
    await asyncio.sleep(60)


@workflow.defn
class Exploding:
    """Fails as its activity, or as its child does."""

    @workflow.run
    async def run(self, kind: str, where: str) -> None:
        once, soon = RetryPolicy(maximum_attempts=1), timedelta(seconds=10)
        match where:
            case "activity":
                await workflow.execute_activity(
                    explode, kind, start_to_close_timeout=soon, retry_policy=once
                )
            case "local activity":
                await workflow.execute_local_activity(
                    explode, kind, start_to_close_timeout=soon, retry_policy=once
                )
            case "child":
                await workflow.execute_child_workflow(Exploding.run, args=[kind, "activity"])
            case _:
                await workflow.execute_activity(
                    hang, start_to_close_timeout=timedelta(seconds=0.05), retry_policy=once
                )


class Catch(Interceptor):
    """Tells what reaches the interceptors of a worker."""

    def __init__(self) -> None:
        self.from_activities: list[Failure] = []
        self.from_workflows: dict[str, Failure] = {}

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _CatchActivity(next, self)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        return type("Catching", (_CatchWorkflow,), {"caught": self})


class _CatchActivity(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, caught: Catch) -> None:
        super().__init__(next)
        self._caught = caught

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except Exception as error:
            self._caught.from_activities.append(failure_from_exception(error, keep_text=True))
            raise


class _CatchWorkflow(WorkflowInboundInterceptor):
    caught: Catch

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        try:
            return await super().execute_workflow(input)
        except Exception as error:
            told = failure_from_exception(error, keep_text=True)
            self.caught.from_workflows[workflow.info().run_id] = told
            raise


def same(live: Failure, from_history: Failure) -> bool:
    """Stacks differ by the frames that each side sees."""
    return (live.type, live.message, live.non_retryable) == (
        from_history.type,
        from_history.message,
        from_history.non_retryable,
    )


@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "encoded"])
@pytest.mark.parametrize("where", ["activity", "child", "local activity", "timeout"])
async def test_live_and_history_agree(temporal_client: Client, where: str, encoded: bool) -> None:
    queue, caught = f"queue-{uuid4().hex[:8]}", Catch()
    client = encoding_failures(temporal_client) if encoded else temporal_client
    kinds = list(ERRORS) if where == "activity" else ["typed", "from a cause"]
    async with worker(
        client,
        queue,
        workflows=[Exploding],
        activities=[explode, hang],
        interceptors=[caught],
    ):
        for kind in kinds:
            handle = await finished(await start(client, queue, Exploding.run, kind, where))
            for event in await events_of(handle):
                if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
                    failure = event.activity_task_failed_event_attributes.failure
                    assert same(caught.from_activities[-1], told(failure)), kind
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
                    failure = event.workflow_execution_failed_event_attributes.failure
                    assert handle.run_id is not None
                    assert same(caught.from_workflows[handle.run_id], told(failure)), kind
        assert len(caught.from_workflows) == len(kinds) * (2 if where == "child" else 1)


def told(failure: FailureProto) -> Failure:
    return failure_from_proto(failure, keep_text=True, read_text=lambda payload: payload.data)


def encoding_failures(client: Client) -> Client:
    return Client(
        client.service_client,
        namespace=client.namespace,
        data_converter=DataConverter(failure_converter_class=EncodingFailures),
    )


class EncodingFailures(DefaultFailureConverter):
    """Puts message and stack where a codec would encode them."""

    def __init__(self) -> None:
        super().__init__(encode_common_attributes=True)


def converted(error: BaseException) -> FailureProto:
    proto = FailureProto()
    converter = DataConverter.default
    converter.failure_converter.to_failure(error, converter.payload_converter, proto)
    return proto


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (TimeoutError("late", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[]),
         "TimeoutError/HEARTBEAT", "late"),
        (TimeoutError("late", type=None, last_heartbeat_details=[]), "TimeoutError", "late"),
        (CancelledError("stop"), "CancelledError", "stop"),
        (TerminatedError("gone"), "TerminatedError", "gone"),
        (ServerError("odd", non_retryable=True), "ServerError", "odd"),
        (nexusrpc.HandlerError("bad", type=nexusrpc.HandlerErrorType.BAD_REQUEST),
         "HandlerError/BAD_REQUEST", "bad"),
    ],
)  # fmt: skip
def test_errors_of_temporal(error: Exception, kind: str, message: str) -> None:
    live = failure_from_exception(error, keep_text=True)
    assert same(live, failure_from_proto(converted(error), keep_text=True))
    assert (live.type, live.message) == (kind, message)


def test_the_innermost_wrapped_error_counts_and_its_causes_are_told() -> None:
    error = wrapped(chained(OutOfStock("no tea"), ValueError("no leaves")))
    for failure in (
        failure_from_exception(error, keep_text=True),
        failure_from_proto(converted(error), keep_text=True),
    ):
        assert (failure.type, failure.message) == ("OutOfStock", "no tea")
        assert failure.stack is not None
        assert "raise error from cause" in failure.stack
        assert failure.stack.endswith("Caused by: ValueError: no leaves")


def test_a_wrapper_without_a_cause_speaks_for_itself() -> None:
    failure = failure_from_exception(wrapped(None), keep_text=True)
    assert (failure.type, failure.message) == ("ActivityError", "Activity task failed")


def test_no_clear_text_where_none_may_be_kept() -> None:
    error = wrapped(chained(OutOfStock("no tea"), ValueError("no leaves")))
    expected = Failure(type="OutOfStock")
    assert failure_from_exception(error, keep_text=False) == expected
    assert failure_from_proto(converted(error), keep_text=False) == expected


def test_a_chain_that_closes_on_itself_ends() -> None:
    error, other = OutOfStock("no tea"), ValueError("no leaves")
    error.__cause__, other.__cause__ = other, error
    assert failure_from_exception(error, keep_text=True).type == "OutOfStock"


def test_a_cancellation_says_so() -> None:
    failure = failure_from_exception(asyncio.CancelledError(), keep_text=True)
    assert (failure.type, failure.message) == ("CancelledError", "Cancelled")


def wrapped(cause: Exception | None) -> ActivityError:
    error = ActivityError(
        "Activity task failed",
        scheduled_event_id=5,
        started_event_id=6,
        identity="worker",
        activity_type="explode",
        activity_id="1",
        retry_state=None,
    )
    error.__cause__ = cause
    return error
