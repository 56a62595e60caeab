"""An accepted signal reaches its run once, in order, after its start; or it is visibly dead."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryRequest
from temporalio.client import Client
from temporalio.converter import DataConverter

from tests.codec import Reversing
from tests.proxy import TcpProxy
from tests.starts import QUEUE, count, rows, run_row
from tests.temporal.inbox_workflow import Inbox, a_worker
from tests.temporal.starting import a_relay, begun_elsewhere, reached
from tests.waiting import eventually
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.outbox import (
    Delivered,
    Refused,
    Retry,
    SignalOutcome,
    signal_in_transaction,
    signal_in_transaction_async,
    start_in_transaction,
    start_in_transaction_async,
)
from tracker.outbox.signaling import try_signal
from tracker.store import outbox
from tracker.store.database import Database
from tracker.store.outbox import LeasedSignal
from tracker.temporal.rpc import unavailable
from tracker.temporal.start_encoder import StartEncoder
from tracker.temporal.starter import TemporalStarter


@pytest.fixture
def encoder(temporal_client: Client) -> StartEncoder:
    return StartEncoder(temporal_client.namespace, task_queue=QUEUE)


@pytest.fixture
async def away(
    temporal_server: EmbeddedTemporal, namespace: str
) -> AsyncIterator[tuple[TcpProxy, Client]]:
    """Temporal through a proxy that resets connections until it is told to pass on."""
    async with TcpProxy(temporal_server.port) as proxy:
        proxy.reset()
        yield proxy, await Client.connect(proxy.address, namespace=namespace, lazy=True)


def started(dsn: str, encoder: StartEncoder, *words: str, **options: Any) -> UUID:
    """An accepted inbox that was told words in the same transaction."""
    with psycopg.connect(dsn) as connection:
        run_id = start_in_transaction(connection, encoder, "Inbox", [], **options)
        for word in words:
            signal_in_transaction(connection, encoder, "hear", word, run_id=run_id)
    return run_id


def told(dsn: str, encoder: StartEncoder, *words: str, **addressee: Any) -> list[UUID]:
    """Words for an inbox, in one transaction each."""
    ids: list[UUID] = []
    for word in words:
        with psycopg.connect(dsn) as connection:
            ids.append(signal_in_transaction(connection, encoder, "hear", word, **addressee))
    return ids


async def result_of(client: Client, store: Database, run_id: UUID) -> list[str]:
    workflow_id = (await run_row(store, run_id))["workflow_id"]
    return await client.get_workflow_handle(workflow_id).result()


async def leased_signal(store: Database, client: Client) -> LeasedSignal:
    [entry] = await outbox.lease(store, client.namespace, limit=1, seconds=0)
    assert entry.kind == "signal"
    return entry


async def has_signals(client: Client, workflow_id: str, ids: list[UUID]) -> bool:
    """Whether the run has these signals, in this order; not at once if a workflow task is under
    way, for its end is when they enter the history."""
    return await request_ids(client, workflow_id) == [str(entry) for entry in ids]


async def request_ids(client: Client, workflow_id: str, run_id: str = "") -> list[str]:
    """Of the signals in the history of a run, in order."""
    request = GetWorkflowExecutionHistoryRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
    )
    answer = await client.workflow_service.get_workflow_execution_history(request)
    return [
        event.workflow_execution_signaled_event_attributes.request_id
        for event in answer.history.events
        if event.HasField("workflow_execution_signaled_event_attributes")
    ]


async def the_dead(store: Database) -> list[str]:
    found = await rows(
        store,
        "SELECT last_error FROM {schema}.outbox WHERE dead_at IS NOT NULL ORDER BY created_at",
    )
    return [row["last_error"] for row in found]


async def test_start_and_signals_of_one_transaction_arrive_in_order(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    words = [f"word {number}" for number in range(8)]
    run_id = started(database, encoder, *words, "end")
    async with a_worker(temporal_client), a_relay(store, temporal_client) as relay:
        assert await result_of_when_started(temporal_client, store, run_id) == [*words, "end"]
        await eventually(lambda: relay.counters.signaled == 9)
    assert await count(store, "outbox") == 0


async def result_of_when_started(client: Client, store: Database, run_id: UUID) -> list[str]:
    async def is_started() -> bool:
        return (await run_row(store, run_id))["run_key"] is not None

    await eventually(is_started)
    return await result_of(client, store, run_id)


async def test_three_relays_keep_the_order_of_each_run(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    words = [str(number) for number in range(10)]
    runs = [started(database, encoder, *words, "end") for _ in range(5)]
    async with (
        a_worker(temporal_client),
        a_relay(store, temporal_client),
        a_relay(store, temporal_client),
        a_relay(store, temporal_client),
    ):
        for run_id in runs:
            told_words = await result_of_when_started(temporal_client, store, run_id)
            assert told_words == [*words, "end"]


async def test_a_rolled_back_signal_is_never_sent(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    run_id = started(database, encoder)
    with psycopg.connect(database) as connection:
        signal_in_transaction(connection, encoder, "hear", "never", run_id=run_id)
        connection.rollback()
    told(database, encoder, "end", run_id=run_id)
    async with a_worker(temporal_client), a_relay(store, temporal_client):
        assert await result_of_when_started(temporal_client, store, run_id) == ["end"]


async def test_a_signal_waits_for_a_start_that_is_held_up(
    store: Database,
    temporal_client: Client,
    away: tuple[TcpProxy, Client],
    database: str,
    encoder: StartEncoder,
) -> None:
    proxy, client = away
    run_id = started(database, encoder, "first")
    async with a_worker(temporal_client), a_relay(store, client, seconds=0.5) as relay:
        await eventually(lambda: relay.counters.put_back >= 2)
        told(database, encoder, "end", run_id=run_id)
        [tries] = await rows(
            store, "SELECT max(tries) AS most FROM {schema}.outbox WHERE kind = 'signal'"
        )
        assert tries["most"] == 0
        proxy.pass_on()
        assert await result_of_when_started(temporal_client, store, run_id) == ["first", "end"]


async def test_by_ref_the_latest_run_of_the_workflow_is_meant(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    of_order = {"ref_type": "order", "ref_id": "o/1"}
    older = started(database, encoder, **of_order)
    latest = started(database, encoder, **of_order)
    told(database, encoder, "end", ref="order/o/1", workflow_type="Inbox")
    async with a_worker(temporal_client), a_relay(store, temporal_client) as relay:
        assert await result_of_when_started(temporal_client, store, latest) == ["end"]
        await eventually(lambda: relay.counters.started == 2)
    handle = temporal_client.get_workflow_handle((await run_row(store, older))["workflow_id"])
    assert (await handle.describe()).close_time is None


async def test_by_workflow_id_a_run_that_is_not_on_record_is_reached(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    await begun_elsewhere(temporal_client, "theirs")
    ids = told(database, encoder, "one", "two", workflow_id="theirs")
    async with a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.signaled == 2)
    assert await request_ids(temporal_client, "theirs") == [str(entry) for entry in ids]


async def test_by_workflow_id_an_accepted_run_is_waited_for(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    run_id = started(database, encoder, workflow_id="ours")
    told(database, encoder, "end", workflow_id="ours")
    async with a_worker(temporal_client), a_relay(store, temporal_client):
        assert await result_of_when_started(temporal_client, store, run_id) == ["end"]
    assert await the_dead(store) == []


async def test_a_signal_follows_its_chain_when_it_continues_as_new(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    run_id = started(database, encoder, "move")
    async with a_worker(temporal_client), a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.signaled == 1)
        handle = temporal_client.get_workflow_handle((await run_row(store, run_id))["workflow_id"])

        async def moved() -> bool:
            return await handle.query(Inbox.words) == ["move", "moved"]

        await eventually(moved)
        told(database, encoder, "end", run_id=run_id)
        assert await handle.result() == ["move", "moved", "end"]


async def test_a_signal_that_comes_too_late_is_dead_with_the_reason(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    run_id = started(database, encoder, "end")
    async with a_worker(temporal_client), a_relay(store, temporal_client) as relay:
        await result_of_when_started(temporal_client, store, run_id)
        told(database, encoder, "late", run_id=run_id)
        await eventually(lambda: relay.counters.dead == 1)
    [reason] = await the_dead(store)
    assert reason.startswith("RunClosed: signal 'hear' was not delivered: run ")
    assert reason.endswith("has ended as completed")


async def test_another_chain_under_the_same_workflow_id_is_not_signaled(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    run_id = started(database, encoder, "end", workflow_id="shared")
    async with a_worker(temporal_client), a_relay(store, temporal_client) as relay:
        await result_of_when_started(temporal_client, store, run_id)
        await begun_elsewhere(temporal_client, "shared")
        told(database, encoder, "late", run_id=run_id)
        await eventually(lambda: relay.counters.dead == 1)
    assert await request_ids(temporal_client, "shared") == []


async def test_a_signal_to_a_run_that_never_started_is_dead(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    run_id = started(database, encoder, "hello")
    await outbox.cancel(store, run_id)
    async with a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.dead == 1)
    [reason] = await the_dead(store)
    assert reason.endswith("never started")


async def test_a_start_that_gave_way_passes_its_signals_on(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    await begun_elsewhere(temporal_client, "theirs")
    run_id = started(
        database, encoder, "hello", workflow_id="theirs", id_conflict_policy="use_existing"
    )
    async with a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.signaled == 1)
    assert await reached(store, run_id, "rejected")
    assert len(await request_ids(temporal_client, "theirs")) == 1


async def test_a_signal_sent_twice_is_one_event(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    await begun_elsewhere(temporal_client, "theirs")
    [entry] = told(database, encoder, "once", workflow_id="theirs")
    carrier = TemporalStarter(temporal_client)
    leased = await leased_signal(store, temporal_client)
    for _ in range(2):
        assert await carrier.signal(leased) == Delivered()
    assert await request_ids(temporal_client, "theirs") == [str(entry)]


@pytest.mark.parametrize("ended", [False, True])
async def test_a_relay_that_dies_after_temporals_answer_leaves_one_signal(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder, ended: bool
) -> None:
    run_id = started(database, encoder)
    async with a_worker(temporal_client), a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.started == 1)
    ids = told(database, encoder, "end" if ended else "stay", run_id=run_id)
    lossy = LosesAnswers(temporal_client)
    outcome = await try_signal(store, lossy, await leased_signal(store, temporal_client))
    assert isinstance(outcome, Retry)
    async with a_worker(temporal_client), a_relay(store, temporal_client) as relay:
        if ended:
            assert await result_of(temporal_client, store, run_id) == ["end"]
        await eventually(lambda: relay.counters.signaled == 1)
        # It counts as delivered even though the run has ended by that very signal.
        assert await the_dead(store) == []
        workflow_id = (await run_row(store, run_id))["workflow_id"]
        await eventually(lambda: has_signals(temporal_client, workflow_id, ids))


async def test_a_lost_answer_is_found_though_the_run_has_continued_as_new(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    run_id = started(database, encoder)
    async with a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.started == 1)
    told(database, encoder, "move", run_id=run_id)
    await try_signal(
        store, LosesAnswers(temporal_client), await leased_signal(store, temporal_client)
    )
    handle = temporal_client.get_workflow_handle((await run_row(store, run_id))["workflow_id"])
    async with a_worker(temporal_client):

        async def moved() -> bool:
            return await handle.query(Inbox.words) == ["move", "moved"]

        await eventually(moved)
        told(database, encoder, "end", run_id=run_id)
        async with a_relay(store, temporal_client) as relay:
            await eventually(lambda: relay.counters.signaled == 2)
        assert await handle.result() == ["move", "moved", "end"]


class LosesAnswers(TemporalStarter):
    """Reaches Temporal, and never learns it."""

    async def signal(self, signal: LeasedSignal) -> SignalOutcome:
        await super().signal(signal)
        return Retry(unavailable("the network ate the answer"))


async def test_what_temporal_refuses_for_good_is_dead(
    store: Database, temporal_client: Client, database: str, encoder: StartEncoder
) -> None:
    told(database, encoder, "hello", workflow_id="nobody")
    outcome = await TemporalStarter(temporal_client).signal(
        await leased_signal(store, temporal_client)
    )
    assert isinstance(outcome, Refused)
    assert outcome.message.endswith("the run of workflow id 'nobody' is not known to Temporal")


async def test_a_codec_encodes_the_arguments(
    store: Database, temporal_server: EmbeddedTemporal, namespace: str, database: str
) -> None:
    converter = DataConverter(payload_codec=Reversing())
    client = await Client.connect(
        temporal_server.address, namespace=namespace, data_converter=converter
    )
    encoder = StartEncoder(namespace, data_converter=converter, task_queue=QUEUE)
    async with await psycopg.AsyncConnection.connect(database) as connection:
        run_id = await start_in_transaction_async(connection, encoder, "Inbox", [])
        for word in ("in secret", "end"):
            await signal_in_transaction_async(connection, encoder, "hear", word, run_id=run_id)
    stored = await rows(store, "SELECT request FROM {schema}.outbox")
    assert not any(b"in secret" in row["request"] for row in stored)
    async with a_worker(client), a_relay(store, client):
        assert await result_of_when_started(client, store, run_id) == ["in secret", "end"]
