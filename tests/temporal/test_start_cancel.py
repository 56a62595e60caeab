"""Cancels against starts: before, during, and when nobody knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from temporalio.client import Client

from tests.proxy import TcpProxy
from tests.starts import accepted, count, encoded
from tests.temporal.starting import a_lease, a_relay, cancel_requested, describes, reached, status
from tests.waiting import eventually
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.outbox import Retry, Started
from tracker.outbox.starting import try_start
from tracker.store import outbox
from tracker.store.database import Database
from tracker.store.outbox import CancelDecision, LeasedStart
from tracker.temporal.starter import TemporalStarter


@pytest.fixture
async def proxy(temporal_server: EmbeddedTemporal) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(temporal_server.port) as running:
        yield running


@pytest.fixture
async def away_client(proxy: TcpProxy, namespace: str) -> Client:
    """Reaches Temporal through the proxy, and connects at its first call."""
    return await Client.connect(proxy.address, namespace=namespace, lazy=True)


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
