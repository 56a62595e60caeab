"""The pytest plugin that users get, used as they would."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.testing.workflows import Order, charge, reserve
from tracker.temporal.refs import tracked_ref
from tracker.testing.assertions import ExpectedStep
from tracker.testing.environment import TrackedEnvironment


async def test_a_recorded_run_is_asserted(flowtrail: TrackedEnvironment) -> None:
    async with flowtrail.worker(workflows=[Order], activities=[reserve, charge]):
        with tracked_ref("order", "o-1"):
            await flowtrail.client.execute_workflow(Order.run, "o-1", id="o-1", task_queue="test")
        run = await flowtrail.assert_run(
            "order/o-1",
            workflow_type="Order",
            steps=["reserve", ExpectedStep("charge", attempts=2)],
        )
    assert [attempt.outcome for attempt in run.steps[1].attempts] == ["failed", "completed"]


async def test_a_difference_is_told(flowtrail: TrackedEnvironment) -> None:
    async with flowtrail.worker(workflows=[Order], activities=[reserve, charge]):
        with tracked_ref("order", "o-1"):
            await flowtrail.client.execute_workflow(Order.run, "o-1", id="o-1", task_queue="test")
    with pytest.raises(AssertionError, match="charge activity completed, 2 attempt"):
        await flowtrail.assert_run("order/o-1", steps=["reserve"], within=0)
    with pytest.raises(AssertionError, match="to be failed, it is completed"):
        await flowtrail.assert_run("order/o-1", status="failed", within=0)
    with pytest.raises(AssertionError, match="no run of Refund for order/o-1; found: Order"):
        await flowtrail.assert_run("order/o-1", workflow_type="Refund", within=0)


def test_a_client_is_asked_for_too_early(flowtrail: TrackedEnvironment) -> None:
    with pytest.raises(RuntimeError, match=r"flowtrail\.worker"):
        _ = flowtrail.client


def test_pytest_loads_the_plugin_without_loading_the_tracker() -> None:
    program = "import sys, tracker.testing.plugin; print(*sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"temporalio", "psycopg", "sqlmodel"} & set(answer.stdout.split())
