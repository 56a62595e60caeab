"""The plugin as a guest: where it stands, when it is silent, what it puts on logs and metrics."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.runtime import MetricBuffer, MetricBufferDurationFormat, Runtime, TelemetryConfig
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    Interceptor,
    UnsandboxedWorkflowRunner,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from tests.temporal.tracking.guest_workflows import WORKFLOWS, talk
from tests.temporal.tracking.harness import Handle, Tracked
from tests.waiting import eventually
from tracker.core.externs import METADATA_SET, REF_ADDED
from tracker.log import FIELDS
from tracker.temporal import metrics, scope
from tracker.temporal.interceptor import TrackerInterceptor
from tracker.temporal.refs import tracked_ref


async def test_disabled_it_records_nothing(
    tracked: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWTRAIL_DISABLED", "1")
    disabled = tracked.client()
    monkeypatch.setenv("FLOWTRAIL_DISABLED", "0")
    enabled = tracked.client()
    handles: list[Handle] = []
    for client in (disabled, enabled):
        async with tracked.worker(WORKFLOWS, [talk], client=client):
            with tracked_ref("order", "o-1"):
                handles.append(await tracked.start("Talking", client=client))
            assert await handles[-1].result() == "talked"
    [run] = await tracked.runs()
    assert run.temporal_run_id == (await tracked.run(handles[1])).temporal_run_id
    # The histories do not tell whether it was on.
    first, second = [await tracked.events(handle) for handle in handles]
    assert [event.event_type for event in first] == [event.event_type for event in second]
    headers = [
        event.activity_task_scheduled_event_attributes.header.fields.keys()
        for event in first
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert headers == [{"flowtrail"}]


async def test_log_records_carry_ref_run_and_step(
    tracked: Tracked, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "temporalio")
    client = tracked.client()
    async with tracked.worker(WORKFLOWS, [talk], client=client):
        with tracked_ref("order", "o-1"):
            handle = await tracked.start("Talking", client=client)
        await handle.signal("nudge")
        await handle.result()
    run = await tracked.run(handle)
    told = {r.getMessage().split(" (")[0]: r for r in caplog.records if "said" in r.getMessage()}
    assert set(told) == {"said in run", "said in signal", "said in activity", "said in local"}
    for message, record in told.items():
        fields = {name: getattr(record, name) for name in FIELDS}
        assert fields == {
            "ref_type": "order",
            "ref_id": "o-1",
            "run_id": str(run.run_id),
            "temporal_run_id": str(run.temporal_run_id),
            "step": {"said in activity": "chat", "said in local": "talk"}.get(message),
            "attempt": 1 if message in ("said in activity", "said in local") else None,
        }


async def test_counters_leave_by_the_runtimes_meter(
    tracked: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "INTERVAL", 0.02)
    buffer = MetricBuffer(10_000, duration_format=MetricBufferDurationFormat.SECONDS)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=buffer))
    client = await Client.connect(
        tracked.connection.service_client.config.target_host,
        namespace=tracked.namespace,
        runtime=runtime,
        plugins=[tracked.plugin()],
    )
    counts: dict[str, float] = {}

    def reported() -> bool:
        for update in buffer.retrieve_updates():
            if update.metric.name.startswith("flowtrail_"):
                counts[update.metric.name] = counts.get(update.metric.name, 0) + update.value
        return counts.get("flowtrail_events_written", 0) >= 6

    async with tracked.worker(WORKFLOWS, [talk], client=client):
        await (await tracked.start("Talking")).result()
        await eventually(reported)
    assert counts["flowtrail_events_written"] <= counts["flowtrail_events_recorded"]
    assert counts["flowtrail_events_dropped"] == counts["flowtrail_events_spilled"] == 0
    assert counts["flowtrail_spill_bytes"] == 0


async def test_an_interceptor_that_rewrites_errors_sits_inside(tracked: Tracked) -> None:
    async with tracked.worker(WORKFLOWS, [talk], interceptors=[Rewriting()]):
        handle = await tracked.start("Talking", "fail")
        await asyncio.wait([asyncio.ensure_future(handle.result())])
    run = await tracked.run(handle)
    for seen in (run, await tracked.corrected(handle)):
        assert (seen.status, seen.error_type) == ("failed", "RunRewritten")
        step = seen.step("chat")
        assert (step.error_type, step.tries[0].error_type) == ("StepRewritten", "StepRewritten")


async def test_given_to_a_worker_instead_of_its_client(tracked: Tracked) -> None:
    plugins = [tracked.plugin()]
    async with tracked.worker(WORKFLOWS, [talk], client=tracked.connection, plugins=plugins):
        handle = await tracked.start("Talking")
        assert await handle.result() == "talked"
    run = await tracked.run(handle)
    assert (run.status, run.metadata, len(run.steps)) == ("completed", {"said": True}, 2)


@pytest.mark.parametrize(
    "runner",
    [SandboxedWorkflowRunner(), UnsandboxedWorkflowRunner()],
    ids=["sandboxed", "unsandboxed"],
)
async def test_any_runner(tracked: Tracked, runner: Any) -> None:
    async with tracked.worker(WORKFLOWS, [talk], workflow_runner=runner):
        handle = await tracked.start("Talking")
        assert await handle.result() == "talked"
    run = await tracked.run(handle)
    assert (run.status, len(run.steps)) == ("completed", 2)
    assert run.metadata == {"said": True}


async def test_the_plugins_modules_may_be_loaded_in_a_sandbox(tracked: Tracked) -> None:
    """Without the plugin nothing passes them through, and a workflow module may import them."""
    async with tracked.worker(WORKFLOWS, [talk], client=tracked.connection):
        handle = await tracked.start("Talking")
        assert await handle.result() == "talked"
    assert await tracked.runs() == []


async def test_nothing_that_the_tracker_raises_reaches_a_workflow(
    tracked: Tracked, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracked.expects_trouble = True

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(scope.WorkerScope, "record", broken)
    monkeypatch.setattr(scope.WorkerScope, "stored_input", broken)
    async with tracked.worker(WORKFLOWS, [talk]):
        handle = await tracked.start("Talking")
        await handle.signal("nudge")
        assert await handle.result() == "talked"
    assert await tracked.runs() == []
    told = [vars(record) for record in caplog.records if record.name == scope.logger.name]
    assert [record["event"] for record in told] == ["tracking.failed"]


@pytest.mark.parametrize("extern", [REF_ADDED, METADATA_SET])
def test_extern_functions_never_raise(extern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = WorkflowInterceptorClassInput(unsafe_extern_functions={})
    TrackerInterceptor().workflow_interceptor_class(given)
    function: Any = given.unsafe_extern_functions[extern]
    arguments: list[Any] = ["order", "o-1"] if extern == REF_ADDED else [{"a": 1}]
    function(*arguments)  # Outside a workflow.


def test_workers_made_in_several_threads_keep_their_scopes(tracked: Tracked) -> None:
    plugin = tracked.plugin()
    client = Client(
        tracked.connection.service_client, namespace=tracked.namespace, plugins=[plugin]
    )
    interceptor = client.config(active_config=True)["interceptors"][0]
    assert isinstance(interceptor, TrackerInterceptor)
    taken: dict[str, str] = {}
    both_configured = threading.Barrier(2)

    def construct(queue: str) -> None:
        plugin.configure_worker({"client": client, "task_queue": queue, "interceptors": []})
        both_configured.wait(10)
        made = interceptor.workflow_interceptor_class(
            WorkflowInterceptorClassInput(unsafe_extern_functions={})
        )
        taken[queue] = vars(made)["scope"].task_queue

    threads = [threading.Thread(target=construct, args=[queue]) for queue in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == {"a": "a", "b": "b"}


class Rewriting(Interceptor):
    """Gives errors another type, as users' interceptors do."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _RewritingActivity(next)

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        return _RewritingWorkflow


class _RewritingActivity(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await self.next.execute_activity(input)
        except Exception as error:
            raise ApplicationError("rewritten", type="StepRewritten", non_retryable=True) from error


class _RewritingWorkflow(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        try:
            return await self.next.execute_workflow(input)
        except Exception as error:
            raise ApplicationError("rewritten", type="RunRewritten") from error
