"""Accepted means it will run, once: with Temporal there, away or silent, and whatever dies in
between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from temporalio.client import Client

from tests.proxy import TcpProxy
from tests.starts import QUEUE, accepted, count, encoded, request, run_row
from tests.temporal.starting import a_lease, a_relay, a_service, describes, runs_of, status
from tests.waiting import eventually
from tracker.core.memo import MEMO_FIELD
from tracker.embedded.ports import free_port
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.errors import DatabaseUnavailable
from tracker.outbox import Outcome, Retry, Started, start_in_transaction
from tracker.outbox.starting import try_start
from tracker.store import outbox
from tracker.store.database import Database
from tracker.store.outbox import LeasedStart
from tracker.temporal.rpc import unavailable
from tracker.temporal.start_encoder import StartEncoder
from tracker.temporal.start_service import StartOutcome, StartService
from tracker.temporal.starter import TemporalStarter


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
