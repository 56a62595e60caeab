"""Many relays at once, in tasks and in processes: each run is started once, each signal is sent
once, although leases end while their holders are still at it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psycopg
from temporalio.client import Client

from tests.proxy import TcpProxy
from tests.starts import QUEUE, accepted, count, encoded, rows
from tests.temporal.relay_program import OVERLAPPING
from tests.temporal.test_accepted_signals import request_ids
from tests.waiting import eventually
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.outbox import Relay, signal_in_transaction
from tracker.store.database import Database, DatabaseOptions
from tracker.temporal.start_encoder import StartEncoder
from tracker.temporal.starter import TemporalStarter

CHECKOUT = Path(__file__).parents[2]


@asynccontextmanager
async def relays(dsn: str, client: Client, number: int) -> AsyncGenerator[list[Relay]]:
    """Each with a pool of its own."""
    running: list[Relay] = []
    async with AsyncExitStack() as stack:
        for _ in range(number):
            database = await stack.enter_async_context(
                Database(DatabaseOptions(dsn), max_connections=2)
            )
            relay = Relay(database, client.namespace, TemporalStarter(client), OVERLAPPING)
            running.append(await stack.enter_async_context(relay))
        yield running


@asynccontextmanager
async def relay_process(dsn: str, address: str, namespace: str) -> AsyncGenerator[None]:
    command = [sys.executable, "-m", "tests.temporal.relay_program", dsn, address, namespace]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, cwd=CHECKOUT)
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
    assert process.returncode == 0


async def accept_many(store: Database, namespace: str, number: int) -> list[str]:
    starts = [encoded(namespace) for _ in range(number)]
    for start in starts:
        await accepted(store, start)
    return [start.workflow_id for start in starts]


async def started(client: Client) -> Counter[str]:
    """Workflow id → how many runs Temporal has of it."""
    return Counter([run.id async for run in client.list_workflows("")])


async def assert_each_ran_once(store: Database, client: Client, ids: list[str]) -> None:
    async def outbox_is_empty() -> bool:
        return await count(store, "outbox") == 0

    await eventually(outbox_is_empty, timeout=60)

    async def all_are_seen() -> bool:
        return len(await started(client)) >= len(ids)

    await eventually(all_are_seen, timeout=20)
    assert await started(client) == Counter(ids)
    bound = await rows(
        store, "SELECT status, count(DISTINCT run_key) AS n FROM {schema}.run GROUP BY 1"
    )
    assert bound == [{"status": "running", "n": len(ids)}]


async def test_eight_relays_start_each_of_200_runs_once(
    store: Database, temporal_client: Client, temporal_server: EmbeddedTemporal, database: str
) -> None:
    ids = await accept_many(store, temporal_client.namespace, 200)
    async with TcpProxy(temporal_server.port) as proxy:
        proxy.delay(0.15)
        slow = await Client.connect(proxy.address, namespace=temporal_client.namespace)
        async with relays(database, slow, 4) as late, relays(database, temporal_client, 4) as soon:
            await assert_each_ran_once(store, temporal_client, ids)
    # They did get in each other's way.
    assert sum(relay.counters.started for relay in (*late, *soon)) > 200


async def test_two_processes_start_each_of_200_runs_once(
    store: Database, temporal_client: Client, temporal_server: EmbeddedTemporal, database: str
) -> None:
    ids = await accept_many(store, temporal_client.namespace, 200)
    where = (database, temporal_server.address, temporal_client.namespace)
    async with relay_process(*where), relay_process(*where):
        await assert_each_ran_once(store, temporal_client, ids)


async def test_eight_relays_send_each_signal_once_and_in_order(
    store: Database, temporal_client: Client, database: str
) -> None:
    workflow_ids = [f"inbox-{number}" for number in range(10)]
    for workflow_id in workflow_ids:
        await temporal_client.start_workflow("Inbox", id=workflow_id, task_queue=QUEUE)
    encoder = StartEncoder(temporal_client.namespace)
    with psycopg.connect(database) as connection:
        told = {
            workflow_id: [
                str(signal_in_transaction(connection, encoder, "hear", workflow_id=workflow_id))
                for _ in range(10)
            ]
            for workflow_id in workflow_ids
        }
    async with relays(database, temporal_client, 8):

        async def outbox_is_empty() -> bool:
            return await count(store, "outbox") == 0

        await eventually(outbox_is_empty, timeout=60)
    for workflow_id, expected in told.items():
        assert await request_ids(temporal_client, workflow_id) == expected
