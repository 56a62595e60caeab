"""`tracker.workflow` outside a running workflow: what it costs, and what needs no server."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    RetryState,
    TimeoutType,
)
from temporalio.exceptions import TimeoutError as TemporalTimeoutError

from tracker.core.retries import Retry
from tracker.step_failures import mark_failure
from tracker.workflow import (
    TrackedOptions,
    pending_step,
    retry_policy,
    step_failure,
    tracked,
    tracked_options,
)

HEAVY = ["pydantic", "psycopg", "sqlmodel", "sqlalchemy", "httpx", "orjson", "temporalio.client"]
PROBE = f"""
import json, sys
import temporalio.workflow
before = set(sys.modules)
import tracker.{{module}}
added = set(sys.modules) - before
print(json.dumps([name for name in {HEAVY!r} if name in added]))
"""


@pytest.mark.parametrize("module", ["workflow", "activity"])
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)],
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(done.stdout) == []


@tracked(alias="campaign")
@workflow.defn
class AboveDefn:
    @workflow.run
    async def run(self) -> None: ...


@workflow.defn
@tracked(alias=["one", "two"])
class BelowDefn:
    @workflow.run
    async def run(self) -> None: ...


class Derived(AboveDefn):
    """Not decorated itself."""


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (AboveDefn, TrackedOptions(aliases=("campaign",))),
        (BelowDefn, TrackedOptions(aliases=("one", "two"))),
        (Derived, TrackedOptions()),
    ],
)
def test_tracked_options(cls: type, expected: TrackedOptions) -> None:
    assert tracked_options(cls) == expected


def test_no_step_is_pending_outside_step() -> None:
    assert pending_step() is None


def test_the_server_keeps_all_of_an_exponential_policy() -> None:
    policy = retry_policy(Retry(5, initial=2, coefficient=3.0, non_retryable=["CardDeclined"]))
    assert policy.maximum_attempts == 5
    assert policy.initial_interval == timedelta(seconds=2)
    assert policy.backoff_coefficient == 3.0
    assert policy.maximum_interval == timedelta(seconds=200)
    assert policy.non_retryable_error_types == ["CardDeclined"]


@pytest.mark.parametrize("backoff", ["linear", "fixed"])
def test_the_server_waits_the_same_each_time_for_the_others(backoff: str) -> None:
    policy = retry_policy(Retry(backoff=backoff))  # pyright: ignore[reportArgumentType]
    assert policy.backoff_coefficient == 1.0
    assert policy.maximum_attempts == 0


def test_failure_of_a_named_step_that_used_up_its_attempts() -> None:
    error = activity_error(
        RetryState.MAXIMUM_ATTEMPTS_REACHED, ApplicationError("busy", 503, type="GatewayBusy")
    )
    mark_failure(error, "charge the card", 4)
    failure = step_failure(error)
    assert failure is not None
    assert (failure.step, failure.attempts) == ("charge the card", 4)
    assert failure.retry_state == "maximum_attempts_reached"
    assert (failure.error_type, failure.message) == ("GatewayBusy", "busy")
    assert failure.details == (503,)
    assert not failure.is_timeout
    assert not failure.is_canceled


def test_attempts_are_unknown_where_the_limit_was_not_reached() -> None:
    error = activity_error(RetryState.NON_RETRYABLE_FAILURE, ApplicationError("no"))
    mark_failure(error, "charge", 4)
    failure = step_failure(error)
    assert failure is not None
    assert (failure.step, failure.attempts) == ("charge", None)
    assert failure.error_type == "ApplicationError"


def test_a_timeout_keeps_the_last_error_of_the_code() -> None:
    timeout = TemporalTimeoutError(
        "activity timeout", type=TimeoutType.SCHEDULE_TO_CLOSE, last_heartbeat_details=[]
    )
    timeout.__cause__ = ApplicationError("connection refused", type="ConnectError")
    failure = step_failure(activity_error(RetryState.TIMEOUT, timeout))
    assert failure is not None
    assert failure.is_timeout
    assert failure.timeout == "schedule_to_close"
    assert failure.error_type == "ConnectError"


def test_what_the_code_raised_counts_not_what_it_raised_it_from() -> None:
    raised = ApplicationError("not enough", "book", type="OutOfStock")
    raised.__cause__ = ApplicationError("0 of book in stock", type="StockError")
    failure = step_failure(activity_error(RetryState.NON_RETRYABLE_FAILURE, raised))
    assert failure is not None
    assert (failure.error_type, failure.details) == ("OutOfStock", ("book",))


def test_a_timeout_alone_is_its_own_reason() -> None:
    timeout = TemporalTimeoutError(
        "activity timeout", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[]
    )
    failure = step_failure(activity_error(RetryState.TIMEOUT, timeout))
    assert failure is not None
    assert (failure.timeout, failure.error_type) == ("heartbeat", "TimeoutError")


def test_cancellation() -> None:
    failure = step_failure(activity_error(RetryState.CANCEL_REQUESTED, CancelledError()))
    assert failure is not None
    assert failure.is_canceled
    assert failure.error_type == "CancelledError"


def test_a_child_workflow_is_the_step_and_what_its_code_raised_the_reason() -> None:
    child = ChildWorkflowError(
        "child failed",
        namespace="default",
        workflow_id="o-1/ship",
        run_id="r",
        workflow_type="ShipOrder",
        initiated_event_id=5,
        started_event_id=6,
        retry_state=None,
    )
    child.__cause__ = activity_error(
        RetryState.NON_RETRYABLE_FAILURE, ApplicationError("no road", type="AddressUnknown")
    )
    wrapped = ApplicationError("not shipped")
    wrapped.__cause__ = child
    failure = step_failure(wrapped)
    assert failure is not None
    assert (failure.step, failure.retry_state) == ("ShipOrder", None)
    assert failure.error_type == "AddressUnknown"


def test_an_error_of_no_step() -> None:
    assert step_failure(ValueError("in workflow code")) is None


def test_a_chain_of_causes_that_closes_on_itself_ends() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert step_failure(first) is None


def activity_error(state: RetryState, cause: BaseException) -> ActivityError:
    error = ActivityError(
        "activity failed",
        scheduled_event_id=5,
        started_event_id=6,
        identity="worker",
        activity_type="charge",
        activity_id="1",
        retry_state=state,
    )
    error.__cause__ = cause
    return error
