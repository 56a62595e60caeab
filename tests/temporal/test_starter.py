"""Accepted means it will run, once: starts against a real Temporal that is there, away, or lies in
wait with another run of the same workflow id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.proxy import TcpProxy
from tests.starts import QUEUE, accepted, count, encoded, request, run_row
from tests.waiting import eventually
from tracker.core.memo import MEMO_FIELD
from tracker.embedded.ports import free_port
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.errors import DatabaseUnavailable
from tracker.outbox import (
    Outcome,
    Refused,
    Relay,
    RelayOptions,
    Retry,
    Started,
    start_in_transaction,
)
from tracker.outbox.starting import try_start
from tracker.store import outbox
from tracker.store.database import Database, DatabaseOptions
from tracker.store.outbox import CancelDecision, LeasedStart
from tracker.temporal.rpc import unavailable
from tracker.temporal.start_encoder import StartEncoder
from tracker.temporal.start_service import StartOutcome, StartService
from tracker.temporal.starter import TemporalStarter

QUICK = RelayOptions(poll=0.05, pause_max=0.2)


@workflow.defn
class ContinuesOnce:
    @workflow.run
    async def run(self, first: bool) -> None:
        if first:
            workflow.continue_as_new(False)
        await workflow.wait_condition(lambda: False)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Database]:
    async with Database(DatabaseOptions(database)) as opened:
        yield opened


@pytest.fixture
def service(store: Database, temporal_client: Client) -> StartService:
    return a_service(store, temporal_client)


@pytest.fixture
async def proxy(temporal_server: EmbeddedTemporal) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(temporal_server.port) as running:
        yield running


@pytest.fixture
async def away_client(proxy: TcpProxy, namespace: str) -> Client:
    """Reaches Temporal through the proxy, and connects at its first call."""
    return await Client.connect(proxy.address, namespace=namespace, lazy=True)


def a_service(store: Database, client: Client, **options: Any) -> StartService:
    starter = TemporalStarter(client, seconds=options.pop("seconds", 2.0))
    return StartService(store, StartEncoder(client.namespace), starter, **options)


def a_relay(store: Database, client: Client, seconds: float = 2.0) -> Relay:
    return Relay(store, client.namespace, TemporalStarter(client, seconds=seconds), QUICK)


async def a_lease(store: Database, client: Client, *, seconds: float = 30.0) -> LeasedStart:
    [entry] = await outbox.lease(store, client.namespace, limit=1, seconds=seconds)
    return entry


async def begun_elsewhere(client: Client, workflow_id: str, type_: str = "Foreign") -> str:
    """A run of that workflow id by somebody who does not know us; its run id."""
    handle = await client.start_workflow(type_, id=workflow_id, task_queue="elsewhere")
    assert handle.result_run_id
    return handle.result_run_id


async def runs_of(client: Client, workflow_id: str) -> list[str]:
    query = f"WorkflowId = '{workflow_id}'"
    return [found.run_id async for found in client.list_workflows(query)]


async def status(store: Database, run_id: UUID) -> str:
    return (await run_row(store, run_id))["status"]


async def reached(store: Database, run_id: UUID, wanted: str) -> bool:
    return await status(store, run_id) == wanted


async def describes(client: Client, workflow_id: str) -> WorkflowExecutionDescription | None:
    """What Temporal knows of the latest run of a workflow id; None if nothing."""
    try:
        return await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def cancel_requested(client: Client, workflow_id: str) -> bool:
    described = await client.get_workflow_handle(workflow_id).describe()
    return described.raw_description.workflow_extended_info.cancel_requested


async def test_a_start_runs_under_our_id(
    service: StartService, store: Database, temporal_client: Client
) -> None:
    result = await service.start(
        request(ref_type="order", ref_id="o-1", metadata={"rush": True}, run_timeout=60)
    )

    assert result.outcome is StartOutcome.CREATED
    run = result.run
    assert run.status == "running"
    described = await temporal_client.get_workflow_handle(run.workflow_id).describe()
    assert described.run_id == str(run.temporal_run_id)
    assert described.workflow_type == "OrderFulfilment"
    assert described.task_queue == QUEUE
    assert (await described.memo())[MEMO_FIELD] == {
        "id": str(run.run_id),
        "workflow_id": run.workflow_id,
        "ref_type": "order",
        "ref_id": "o-1",
        "metadata": {"rush": True},
    }
    assert run.started_at is not None
    assert timedelta(0) <= run.started_at - described.start_time < timedelta(seconds=1)
    assert await count(store, "outbox") == 0


async def test_a_repeated_key_gives_the_first_run(service: StartService) -> None:
    first = await service.start(request(idempotency_key="k"))
    again = await service.start(request(idempotency_key="k"))
    assert again.outcome is StartOutcome.EXISTING
    assert again.run.run_id == first.run.run_id
    assert again.run.status == "running"


async def test_100_concurrent_starts_with_one_key(service: StartService, store: Database) -> None:
    results = await asyncio.gather(
        *(service.start(request(idempotency_key="k")) for _ in range(100))
    )
    assert len({result.run.run_id for result in results}) == 1
    assert [r.outcome for r in results].count(StartOutcome.CREATED) == 1
    assert await count(store, "run") == 1


async def test_100_concurrent_starts_of_one_ref(service: StartService, store: Database) -> None:
    results = await asyncio.gather(
        *(service.start(request(ref_type="order", ref_id="o-1")) for _ in range(100))
    )
    assert {result.outcome for result in results} == {StartOutcome.CREATED}
    assert len({result.run.temporal_run_id for result in results}) == 100
    assert await count(store, "workflow") == 1


@pytest.mark.parametrize("failure", ["hang", "reset"])
async def test_temporal_away_is_answered_soon_and_starts_later_once(
    store: Database, proxy: TcpProxy, away_client: Client, temporal_client: Client, failure: str
) -> None:
    getattr(proxy, failure)()
    began = time.monotonic()
    result = await a_service(store, away_client, seconds=0.5).start(request())

    assert time.monotonic() - began < 2
    assert result.outcome is StartOutcome.ACCEPTED
    assert result.run.status == "accepted"

    async with a_relay(store, away_client, seconds=0.3) as relay:
        await eventually(lambda: relay.counters.put_back)
        proxy.pass_on()
        await eventually(lambda: relay.counters.started)
    row = await run_row(store, result.run.run_id)
    assert row["status"] == "running"

    async def visible() -> bool:
        return await runs_of(temporal_client, row["workflow_id"]) == [str(row["run_key"])]

    await eventually(visible)


async def test_a_port_where_nobody_listens(store: Database, namespace: str) -> None:
    nobody = await Client.connect(f"127.0.0.1:{free_port()}", namespace=namespace, lazy=True)
    result = await a_service(store, nobody).start(request())
    assert result.outcome is StartOutcome.ACCEPTED


async def test_a_lost_answer_does_not_start_twice(store: Database, temporal_client: Client) -> None:
    service = StartService(
        store, StartEncoder(temporal_client.namespace), LosesAnswers(temporal_client)
    )
    result = await service.start(request())
    assert result.outcome is StartOutcome.ACCEPTED
    arrived = await describes(temporal_client, result.run.workflow_id)
    assert arrived is not None

    async with a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.started)
    assert str((await run_row(store, result.run.run_id))["run_key"]) == arrived.run_id


class LosesAnswers(TemporalStarter):
    """Reaches Temporal, and never learns it."""

    async def start(self, start: LeasedStart) -> Outcome:
        await super().start(start)
        return Retry(unavailable("the network ate the answer"))


async def test_an_api_that_dies_between_accept_and_start(
    store: Database, temporal_client: Client
) -> None:
    start = encoded(temporal_client.namespace)
    await accepted(store, start, lease=0.3)

    async with a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.started)
    assert await status(store, start.id) == "running"


async def test_what_a_transaction_committed_is_started(
    store: Database, temporal_client: Client, database: str
) -> None:
    encoder = StartEncoder(temporal_client.namespace, task_queue=QUEUE)
    async with a_relay(store, temporal_client) as relay:
        with psycopg.connect(database) as connection:
            run_id = start_in_transaction(connection, encoder, "OrderFulfilment")
        relay.wake()
        await eventually(lambda: relay.counters.started)
    assert await status(store, run_id) == "running"


async def test_racing_relays_start_each_run_once(store: Database, temporal_client: Client) -> None:
    started = [encoded(temporal_client.namespace) for _ in range(30)]
    for start in started:
        await accepted(store, start)

    async with (
        a_relay(store, temporal_client) as one,
        a_relay(store, temporal_client) as two,
        a_relay(store, temporal_client) as three,
    ):
        relays = (one, two, three)
        await eventually(lambda: sum(r.counters.started for r in relays) == 30)
    for start in started:
        handle = temporal_client.get_workflow_handle(start.workflow_id)
        described = await handle.describe()
        assert described.run_id == str((await run_row(store, start.id))["run_key"])


async def test_two_holders_of_one_start_give_one_run(
    store: Database, temporal_client: Client
) -> None:
    start = encoded(temporal_client.namespace, workflow_id="mine")
    await accepted(store, start)
    slow = await a_lease(store, temporal_client, seconds=0)
    fast = await a_lease(store, temporal_client)

    starter = TemporalStarter(temporal_client)
    one, two = await asyncio.gather(
        try_start(store, starter, slow), try_start(store, starter, fast)
    )
    assert one.outcome == two.outcome
    assert isinstance(one.outcome, Started)


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


async def test_a_database_that_dies_after_the_accept(
    store: Database, temporal_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any) -> None:
        raise DatabaseUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "finish", dies)
        result = await a_service(store, temporal_client, lease=0.1).start(request())
    assert result.outcome is StartOutcome.ACCEPTED
    async with a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.started)
    handle = temporal_client.get_workflow_handle(result.run.workflow_id)
    assert (await run_row(store, result.run.run_id))["run_key"] == UUID(
        (await handle.describe()).run_id
    )


# Cancels against starts.


async def test_a_cancel_before_the_start_wins(store: Database, temporal_client: Client) -> None:
    start = encoded(temporal_client.namespace)
    await accepted(store, start)
    assert await outbox.cancel(store, start.id) is CancelDecision.CANCELED
    async with a_relay(store, temporal_client):
        later = encoded(temporal_client.namespace)
        await accepted(store, later)
        await eventually(lambda: reached(store, later.id, "running"))
    assert await status(store, start.id) == "canceled"
    assert await describes(temporal_client, start.workflow_id) is None


async def test_a_cancel_while_the_start_is_under_way_reaches_temporal(
    store: Database, temporal_client: Client
) -> None:
    start = encoded(temporal_client.namespace)
    await accepted(store, start)
    entry = await a_lease(store, temporal_client)
    assert await outbox.cancel(store, start.id) is CancelDecision.REQUESTED

    tried = await try_start(store, TemporalStarter(temporal_client), entry)
    assert isinstance(tried.outcome, Started)
    assert await count(store, "outbox") == 0
    assert await cancel_requested(temporal_client, start.workflow_id)


async def test_a_cancel_of_a_start_whose_end_nobody_knows(
    store: Database, temporal_client: Client
) -> None:
    not_there, there = encoded(temporal_client.namespace), encoded(temporal_client.namespace)
    starter = TemporalStarter(temporal_client)
    for start in (not_there, there):
        await accepted(store, start)
        entry = await a_lease(store, temporal_client, seconds=0.2)
        if start is there:
            await starter.start(entry)
        assert await outbox.cancel(store, start.id) is CancelDecision.REQUESTED

    async with a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.canceled == relay.counters.started == 1)
    assert await status(store, not_there.id) == "canceled"
    assert await describes(temporal_client, not_there.workflow_id) is None
    assert await status(store, there.id) == "running"
    assert await cancel_requested(temporal_client, there.workflow_id)


async def test_a_cancel_that_temporal_does_not_take_now_is_tried_again(
    store: Database, proxy: TcpProxy, away_client: Client, temporal_client: Client
) -> None:
    start = encoded(temporal_client.namespace)
    await accepted(store, start)
    entry = await a_lease(store, temporal_client)
    await outbox.cancel(store, start.id)
    tried = await try_start(store, CancelsThrough(temporal_client, away_client, proxy), entry)
    assert isinstance(tried.outcome, Retry)
    assert await status(store, start.id) == "running"
    assert not await cancel_requested(temporal_client, start.workflow_id)

    async with a_relay(store, temporal_client):

        async def done() -> bool:
            return await cancel_requested(temporal_client, start.workflow_id)

        await eventually(done)


class CancelsThrough(TemporalStarter):
    """Starts by one client, cancels by one whose Temporal is away."""

    def __init__(self, client: Client, away: Client, proxy: TcpProxy) -> None:
        super().__init__(client)
        proxy.reset()
        self._away = TemporalStarter(away, seconds=0.5)

    async def cancel(self, start: LeasedStart, run_key: UUID) -> Retry | None:
        return await self._away.cancel(start, run_key)


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


# Search attributes.


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
