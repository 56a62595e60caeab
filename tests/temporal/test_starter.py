"""What Temporal's answer to a start means: whose run holds the workflow id, what is refused for
good, and what may pass."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.starts import QUEUE, a_leased_start, accepted, count, encoded, request, rows, run_row
from tests.temporal.starting import a_lease, a_service, begun_elsewhere
from tests.waiting import eventually
from tracker.outbox import Refused, Retry, Started
from tracker.outbox.starting import try_start
from tracker.store.database import Database
from tracker.store.outbox import LeasedStart
from tracker.temporal.executions import list_executions
from tracker.temporal.search_attributes import RefSearchAttributes
from tracker.temporal.start_encoder import StartEncoder
from tracker.temporal.start_service import StartOutcome, StartService
from tracker.temporal.starter import TemporalStarter


@pytest.fixture
def service(store: Database, temporal_client: Client) -> StartService:
    return a_service(store, temporal_client)


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_workflow_id_that_somebody_else_took_meanwhile(
    store: Database, temporal_client: Client, is_open: bool
) -> None:
    start = encoded(
        temporal_client.namespace, workflow_id="taken", id_reuse_policy="reject_duplicate"
    )
    await accepted(store, start)
    other = await begun_elsewhere(temporal_client, "taken")
    if not is_open:
        await temporal_client.get_workflow_handle("taken").terminate()

    entry = await a_lease(store, temporal_client)
    tried = await try_start(store, TemporalStarter(temporal_client), entry)

    assert isinstance(tried.outcome, Refused)
    row = await run_row(store, start.id)
    assert (row["status"], row["error_type"]) == ("rejected", "WorkflowAlreadyStarted")
    assert other in row["error_message"]
    assert row["duplicate_of"] is None


async def test_the_facade_tells_a_conflict(service: StartService, temporal_client: Client) -> None:
    await begun_elsewhere(temporal_client, "taken")
    result = await service.start(request(workflow_id="taken"))
    assert result.outcome is StartOutcome.REJECTED
    assert result.run.error is not None
    assert result.run.error.type == "WorkflowAlreadyStarted"


async def test_use_existing_gives_the_run_of_somebody_else(
    service: StartService, store: Database, temporal_client: Client
) -> None:
    other = await begun_elsewhere(temporal_client, "taken")
    results = [
        await service.start(request(workflow_id="taken", id_conflict_policy="use_existing"))
        for _ in range(2)
    ]

    for result in results:
        assert result.outcome is StartOutcome.DUPLICATE
        assert str(result.run.temporal_run_id) == other
        assert result.run.workflow_type == "Foreign"
        assert result.rejected_id is not None
        rejected = await run_row(store, result.rejected_id)
        assert (rejected["status"], rejected["duplicate_of"]) == ("rejected", result.run.run_id)
    assert await count(store, "run") == 3


async def test_use_existing_gives_our_own_earlier_run_by_its_id(service: StartService) -> None:
    first = await service.start(request(workflow_id="mine", id_conflict_policy="use_existing"))
    second = await service.start(request(workflow_id="mine", id_conflict_policy="use_existing"))
    assert first.outcome is StartOutcome.CREATED
    assert second.outcome is StartOutcome.DUPLICATE
    assert second.run.run_id == first.run.run_id


async def test_terminate_existing(service: StartService, temporal_client: Client) -> None:
    other = await begun_elsewhere(temporal_client, "mine")
    result = await service.start(
        request(workflow_id="mine", id_conflict_policy="terminate_existing")
    )
    assert result.outcome is StartOutcome.CREATED
    old = await temporal_client.get_workflow_handle("mine", run_id=other).describe()
    assert old.status is WorkflowExecutionStatus.TERMINATED


async def test_a_run_that_started_and_was_overtaken_is_still_found(
    store: Database, temporal_client: Client
) -> None:
    start = encoded(temporal_client.namespace, workflow_id="it's mine")
    await accepted(store, start)
    starter = TemporalStarter(temporal_client)
    # A try whose answer nobody hears; then the run ends, and a stranger takes the workflow id.
    lost = await starter.start(await a_lease(store, temporal_client, seconds=0))
    assert isinstance(lost, Started)
    handle = temporal_client.get_workflow_handle("it's mine")
    await handle.terminate()
    newer = await begun_elsewhere(temporal_client, "it's mine")
    assert newer != str(lost.run_key)

    async def overtaken_runs() -> bool:
        query = "WorkflowType = 'Foreign' OR ExecutionStatus = 'Terminated'"
        return len([run async for run in temporal_client.list_workflows(query)]) == 2

    await eventually(overtaken_runs)
    # With the newer run closed Temporal would gladly start another one under our request id.
    await handle.terminate()
    tried = await try_start(store, starter, await a_lease(store, temporal_client))
    assert tried.outcome == Started(lost.run_key, is_open=False)
    assert (await run_row(store, start.id))["run_key"] == lost.run_key


@workflow.defn
class ContinuesOnce:
    @workflow.run
    async def run(self, first: bool) -> None:
        if first:
            workflow.continue_as_new(False)
        await workflow.wait_condition(lambda: False)


async def test_a_run_that_continued_as_new_binds_its_first(
    store: Database, temporal_client: Client
) -> None:
    start = StartEncoder(temporal_client.namespace).encode(
        request(workflow_type="ContinuesOnce", input=True)
    )
    await accepted(store, start)
    starter = TemporalStarter(temporal_client)
    lost = await starter.start(await a_lease(store, temporal_client, seconds=0))
    assert isinstance(lost, Started)
    handle = temporal_client.get_workflow_handle(start.workflow_id)

    async with Worker(
        temporal_client,
        task_queue=QUEUE,
        workflows=[ContinuesOnce],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):

        async def continued() -> bool:
            return (await handle.describe()).run_id != str(lost.run_key)

        await eventually(continued)
        again = await a_lease(store, temporal_client)
        assert again.tries == 2
        tried = await try_start(store, starter, again)
    assert tried.outcome == Started(lost.run_key)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"input": "x" * 2_200_000}, "PayloadTooLarge"),
        ({"input": "x" * 4_500_000}, "PayloadTooLarge"),
        ({"priority": {"fairness_key": "€" * 64}}, "InvalidArgument"),
    ],
)
async def test_what_temporal_can_never_take_is_rejected(
    service: StartService, store: Database, fields: dict[str, Any], code: str
) -> None:
    result = await service.start(request(**fields))
    assert result.outcome is StartOutcome.REJECTED
    assert result.run.error is not None
    assert result.run.error.type == code
    assert await count(store, "outbox") == 0


async def test_an_unknown_namespace_is_rejected(store: Database, temporal_client: Client) -> None:
    nowhere = Client(temporal_client.service_client, namespace="nowhere")
    result = await a_service(store, nowhere).start(request())
    assert result.outcome is StartOutcome.REJECTED
    assert result.run.error is not None
    assert result.run.error.type == "NotFound"


@pytest.mark.parametrize(
    "code",
    [
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.FAILED_PRECONDITION,
    ],
)
async def test_what_may_pass_is_tried_again(
    temporal_client: Client, monkeypatch: pytest.MonkeyPatch, code: RPCStatusCode
) -> None:
    async def fails(*_: Any, **__: Any) -> None:
        raise RPCError("trouble", code, b"")

    monkeypatch.setattr(temporal_client.workflow_service, "start_workflow_execution", fails)
    start = encoded(temporal_client.namespace)
    entry = LeasedStart(
        id=start.id,
        namespace=start.namespace,
        request=start.request,
        on_conflict="reject",
        created_at=datetime.now(UTC),
        tries=1,
    )
    outcome = await TemporalStarter(temporal_client).start(entry)
    assert isinstance(outcome, Retry)
    assert "trouble" in outcome.error.details["cause"]


async def test_search_attributes_only_where_they_are_registered(
    store: Database, temporal_client: Client
) -> None:
    starter = TemporalStarter(temporal_client, search_attributes=True)
    service = StartService(store, StartEncoder(temporal_client.namespace), starter)
    without = await service.start(request(ref_type="order", ref_id="o-1"))
    assert without.outcome is StartOutcome.CREATED

    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    await temporal_client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(
            namespace=temporal_client.namespace,
            search_attributes={"RefType": keyword, "RefId": keyword},
        )
    )

    async def found() -> bool:
        starter = TemporalStarter(temporal_client, search_attributes=True)
        fresh = StartService(store, StartEncoder(temporal_client.namespace), starter)
        result = await fresh.start(request(ref_type="order", ref_id="o-2"))
        assert result.outcome is StartOutcome.CREATED
        query = "RefType = 'order' AND RefId = 'o-2'"
        return any([True async for _ in temporal_client.list_workflows(query)])

    await eventually(found)


async def test_search_attributes_that_were_removed_do_not_cost_the_start(
    store: Database, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def seen_before(*_: Any) -> bool:
        return True

    monkeypatch.setattr(RefSearchAttributes, "_look", seen_before)
    starter = TemporalStarter(temporal_client, search_attributes=True)
    service = StartService(store, StartEncoder(temporal_client.namespace), starter)
    result = await service.start(request(ref_type="order", ref_id="o-1"))
    assert result.outcome is StartOutcome.CREATED


async def test_a_start_that_comes_from_a_backup_is_looked_for_on_its_first_try(
    store: Database, temporal_client: Client
) -> None:
    """Its workflow id was used again since, so Temporal has forgotten its request id."""
    starter = TemporalStarter(temporal_client)
    first = encoded(temporal_client.namespace, workflow_id="mine")
    second = encoded(temporal_client.namespace, workflow_id="mine")
    started: list[Any] = []
    for start in (first, second):
        await accepted(store, start)
        started.append(await starter.start(await a_leased_start(store, start.namespace)))
        await rows(store, "DELETE FROM {schema}.outbox RETURNING 1")
        await temporal_client.get_workflow_handle("mine").terminate()
    entry = LeasedStart(
        id=first.id,
        namespace=first.namespace,
        request=first.request,
        on_conflict="reject",
        created_at=datetime.now(UTC),
        tries=1,
    )

    async def seen() -> int:
        return len([info async for info in list_executions(temporal_client, "", seconds=5)])

    async def both_visible() -> bool:
        return await seen() == 2

    await eventually(both_visible)
    outcome = await starter.start(entry)
    assert isinstance(outcome, Started)
    assert outcome.run_key == started[0].run_key
    assert await seen() == 2
