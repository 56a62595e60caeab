"""`tracker.workflow` in running workflows of a worker without the plugin, in Temporal's sandbox."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    Interceptor,
    Replayer,
    StartActivityInput,
    StartLocalActivityInput,
    Worker,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from tests.temporal.step_sugar_workflows import (
    Describing,
    Failing,
    Greeting,
    Misused,
    add,
    fail,
    greet,
)
from tracker.core.externs import METADATA_SET, REF_ADDED
from tracker.core.ids import Ref, derived_run_id
from tracker.core.memo import MEMO_FIELD, Carried
from tracker.workflow import Retry, pending_step

QUEUE = "steps"


async def test_steps_are_plain_activities(temporal_client: Client) -> None:
    async with worker(temporal_client):
        handle = await start(temporal_client, "Greeting")
        assert await handle.result() == ["Hello function", "Hello name", "Hello local", 3]
    await replay(handle)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        (False, ["try hard", 3, "maximum_attempts_reached", "NoLuck"]),
        (True, ["fail-always", None, None, "NoLuck"]),
    ],
)
async def test_a_failure_tells_what_temporal_told(
    temporal_client: Client, local: bool, expected: list[Any]
) -> None:
    async with worker(temporal_client):
        handle = await start(temporal_client, "Failing", local)
        assert await handle.result() == expected
    await replay(handle)


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        ("name", "expected name to be 1-200 printable characters, got ''"),
        ("local", "expected no task_queue with local=True, got 'q'"),
        ("metadata", "expected metadata 'when' to be JSON, got datetime"),
        ("ref", "expected ref_type to be 1-100 characters without '/'"),
    ],
)
async def test_misuse_names_what_to_change(
    temporal_client: Client, misuse: str, message: str
) -> None:
    async with worker(temporal_client):
        handle = await start(temporal_client, "Misused", misuse)
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.message.startswith(message)


async def test_metadata_and_links_live_in_the_memo(temporal_client: Client) -> None:
    async with worker(temporal_client):
        handle = await start(temporal_client, "Describing")
        before, after = await handle.result()
    history = await handle.fetch_history()
    memo = (await handle.describe()).memo_value

    assert (before["ref"], before["metadata"]) == (None, {})
    assert after["ref"] == "payment/p-1"
    assert after["metadata"] == {"region": "south", "lines": [1]}
    assert await memo(MEMO_FIELD) == {
        "metadata": {"region": "south", "lines": [1]},
        "links": [["payment", "p-1"]],
    }
    upserts = EventType.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED
    # Two changes of metadata, one link; what changes nothing costs nothing.
    assert sum(event.event_type == upserts for event in history.events) == 3
    await replay(handle)


async def test_a_carried_id_names_the_run_for_which_it_was_made(temporal_client: Client) -> None:
    own, ref = uuid4(), Ref("order", "o-1")
    async with worker(temporal_client):
        bound = await start(
            temporal_client, "Describing", carried=Carried(own, "bound", ref), id="bound"
        )
        copied = await start(
            temporal_client, "Describing", carried=Carried(own, "bound", ref), id="copied"
        )
        bound_run, copied_run = await bound.result(), await copied.result()

    assert {run["run_id"] for run in bound_run} == {str(own)}
    assert {run["ref"] for run in bound_run} == {"order/o-1"}
    assert copied.result_run_id is not None
    derived = derived_run_id(temporal_client.namespace, UUID(copied.result_run_id), None)
    assert {run["run_id"] for run in copied_run} == {str(derived)}


async def test_interceptors_see_the_pending_step_and_externs_hear_of_changes(
    temporal_client: Client,
) -> None:
    listener = Listener()
    async with worker(temporal_client, listener):
        await (await start(temporal_client, "Greeting")).result()
        await (await start(temporal_client, "Failing", False)).result()
        handle = await start(temporal_client, "Describing")
        await handle.result()
    retry = Retry(max_attempts=3, initial=0.01, backoff="linear")
    assert listener.pending == [
        ("greet them", None),
        (None, None),
        ("nearby", None),
        (None, None),
        ("try hard", retry),
    ]
    heard = [
        (METADATA_SET, {"region": "north", "lines": [1]}),
        (METADATA_SET, {"region": "south", "lines": [1]}),
        (REF_ADDED, "payment", "p-1"),
    ]
    assert listener.heard == heard
    # In replay nothing is told again.
    replayer = Replayer(
        workflows=[Describing], interceptors=[listener], workflow_runner=PASSED_THROUGH
    )
    await replayer.replay_workflow(await handle.fetch_history())
    assert listener.heard == heard


async def test_an_extern_function_that_fails_does_no_harm(temporal_client: Client) -> None:
    listener = Listener(broken=True)
    async with worker(temporal_client, listener):
        handle = await start(temporal_client, "Describing")
        _, after = await handle.result()
    assert after["ref"] == "payment/p-1"


class Listener(Interceptor):
    """Stands where the plugin stands."""

    def __init__(self, *, broken: bool = False) -> None:
        self.pending: list[tuple[str | None, Retry | None]] = []
        self.heard: list[tuple[Any, ...]] = []
        self._broken = broken

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        for name in (METADATA_SET, REF_ADDED):
            input.unsafe_extern_functions[name] = self._hears(name)
        input.unsafe_extern_functions["note_pending"] = self.pending.append
        return _Inbound

    def _hears(self, name: str) -> Any:
        def hear(*facts: Any) -> None:
            if self._broken:
                raise RuntimeError(name)
            self.heard.append((name, *facts))

        return hear


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound))


class _Outbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        self._note()
        return super().start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> workflow.ActivityHandle[Any]:
        self._note()
        return super().start_local_activity(input)

    def _note(self) -> None:
        if (pending := pending_step()) and not workflow.unsafe.is_replaying():
            note = workflow.extern_functions()["note_pending"]
            note((pending.name, pending.retry))


# As the plugin has it; without it the sandbox loads a copy of the library for each run.
PASSED_THROUGH = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules("tracker")
)


@asynccontextmanager
async def worker(client: Client, *interceptors: Interceptor) -> AsyncGenerator[None]:
    async with Worker(
        client,
        task_queue=QUEUE,
        workflows=[Greeting, Failing, Misused, Describing],
        activities=[greet, add, fail],
        interceptors=interceptors,
        workflow_runner=PASSED_THROUGH if interceptors else SandboxedWorkflowRunner(),
    ):
        yield


async def start(
    client: Client,
    workflow_type: str,
    *args: Any,
    carried: Carried | None = None,
    id: str | None = None,
) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(
        workflow_type,
        args=args,
        id=id or str(uuid4()),
        task_queue=QUEUE,
        execution_timeout=timedelta(seconds=20),
        memo={MEMO_FIELD: carried.to_memo()} if carried else None,
    )


async def replay(handle: WorkflowHandle[Any, Any]) -> None:
    replayer = Replayer(workflows=[Greeting, Failing, Misused, Describing])
    await replayer.replay_workflow(await handle.fetch_history())
