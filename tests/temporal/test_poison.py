"""Entries that are broken, on real servers: visibly dead, and nobody else's matter."""

from __future__ import annotations

from uuid import UUID

from temporalio.client import Client

from tests.starts import accepted, count, encoded, rows
from tests.store.test_signal_order import accepted_signal
from tests.temporal.starting import a_relay, reached, status
from tests.waiting import eventually
from tracker.core.ids import new_id
from tracker.store import dead_entries, outbox
from tracker.store.database import Database

GARBAGE = b"\xff\xff\xff\xff not a message"


async def a_broken_start(store: Database, namespace: str) -> UUID:
    start = encoded(namespace)
    await accepted(store, start)
    await rows(
        store,
        "UPDATE {schema}.outbox SET request = %(garbage)s WHERE id = %(id)s RETURNING id",
        garbage=GARBAGE,
        id=start.id,
    )
    return start.id


async def test_what_cannot_be_read_is_dead_at_once(
    store: Database, temporal_client: Client
) -> None:
    namespace = temporal_client.namespace
    run_id = await a_broken_start(store, namespace)
    signal_id = await accepted_signal(store, new_id(), namespace, request=GARBAGE)
    fine = encoded(namespace)
    await accepted(store, fine)
    async with a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.dead == 2)
        await eventually(lambda: relay.counters.started == 1)
    dead = await dead_entries.list_entries(store, namespace, dead=True, limit=10)
    assert {entry.id: entry.tries for entry in dead} == {run_id: 1, signal_id: 1}
    for entry in dead:
        assert (entry.last_error or "").startswith("the call cannot be read")
    assert await status(store, run_id) == "accepted"
    assert await status(store, fine.id) == "running"


async def test_a_mended_entry_that_is_revived_starts(
    store: Database, temporal_client: Client
) -> None:
    namespace = temporal_client.namespace
    start = encoded(namespace)
    await accepted(store, start)
    await rows(
        store, "UPDATE {schema}.outbox SET request = %(garbage)s RETURNING id", garbage=GARBAGE
    )
    async with a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.dead == 1)
        await rows(
            store,
            "UPDATE {schema}.outbox SET request = %(request)s RETURNING id",
            request=start.request,
        )
        await dead_entries.revive(store, namespace, start.id)
        await eventually(lambda: relay.counters.started == 1)
    assert await status(store, start.id) == "running"


async def test_a_cancel_of_a_start_that_cannot_be_read_ends_its_run(
    store: Database, temporal_client: Client
) -> None:
    run_id = await a_broken_start(store, temporal_client.namespace)
    async with a_relay(store, temporal_client) as relay:
        await eventually(lambda: relay.counters.dead == 1)
        await outbox.cancel(store, run_id)
        await eventually(lambda: reached(store, run_id, "canceled"))
    assert await count(store, "outbox") == 0
