"""Which signal may be tried next: those of one run wait for its start and for each other, and
nobody else waits for them."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from tests.starts import NAMESPACE, a_leased_start, accepted, encoded, rows
from tests.waiting import eventually
from tracker.core.ids import new_id
from tracker.store import dead_entries, outbox
from tracker.store.accept_signal import AcceptedSignal, inserting
from tracker.store.database import Database
from tracker.store.outbox import HELD_MAX, LeasedSignal


async def accepted_signal(
    store: Database, run_id: UUID, namespace: str = NAMESPACE, request: bytes = b""
) -> UUID:
    """A signal, committed."""
    signal = AcceptedSignal(id=new_id(), namespace=namespace, run_id=run_id, request=request)
    sql, parameters = next(inserting("flowtrail", signal))
    async with store.connection() as connection:
        await connection.execute(sql, parameters)
    return signal.id


async def taken(store: Database, limit: int = 10, seconds: float = 30) -> list[UUID]:
    entries = await outbox.lease(store, NAMESPACE, limit=limit, seconds=seconds)
    return [entry.id for entry in entries]


async def a_signal(store: Database) -> LeasedSignal:
    [entry] = await outbox.lease(store, NAMESPACE, limit=10, seconds=30)
    assert entry.kind == "signal"
    return entry


async def test_signals_of_one_run_are_taken_one_after_another(store: Database) -> None:
    run_id = new_id()
    ids = [await accepted_signal(store, run_id) for _ in range(5)]
    for expected in ids:
        signal = await a_signal(store)
        assert signal.id == expected
        assert await taken(store) == []
        await outbox.deliver(store, signal)
    assert await taken(store) == []


async def test_signals_of_different_runs_are_taken_together(store: Database) -> None:
    ids = [await accepted_signal(store, new_id()) for _ in range(5)]
    assert await taken(store) == ids


async def test_a_start_goes_before_its_signals_whatever_their_ids(store: Database) -> None:
    start = encoded()
    waiting = await accepted_signal(store, start.id)
    await accepted(store, start)
    entry = await a_leased_start(store)
    assert await taken(store) == []

    await outbox.finish(store, entry, new_id())
    [signal] = await outbox.lease(store, NAMESPACE, limit=10, seconds=30)
    assert signal.kind == "signal"
    assert (signal.id, signal.on_record) == (waiting, True)
    assert signal.run_key == signal.first_run_key is not None


async def test_a_signal_that_is_put_back_holds_back_the_later_ones(store: Database) -> None:
    run_id = new_id()
    first, second = [await accepted_signal(store, run_id) for _ in range(2)]
    signal = await a_signal(store)
    await outbox.put_back(store, signal, "away")
    assert await taken(store) == []

    async def again() -> list[UUID]:
        return await taken(store, seconds=0)

    assert await eventually(again) == [first]
    await outbox.deliver(store, signal)
    assert await taken(store) == [second]


async def test_a_dead_signal_holds_back_nothing(store: Database) -> None:
    run_id = new_id()
    _, second = [await accepted_signal(store, run_id) for _ in range(2)]
    signal = await a_signal(store)
    assert await taken(store) == []
    await dead_entries.bury(store, signal, "refused")
    assert await taken(store) == [second]


async def test_a_dead_start_holds_back_its_signals_until_it_is_dropped(store: Database) -> None:
    start = encoded()
    await accepted(store, start)
    waiting = await accepted_signal(store, start.id)
    await dead_entries.bury(store, await a_leased_start(store), "broken")
    assert await taken(store) == []
    # Looked at again now and then, never pushed out for good.
    [entry] = await rows(
        store,
        "SELECT extract(epoch FROM leased_until - now())::float AS wait FROM {schema}.outbox"
        " WHERE kind = 'signal'",
    )
    assert 0 < entry["wait"] <= HELD_MAX

    await dead_entries.drop(store, NAMESPACE, start.id)
    await rows(
        store, "UPDATE {schema}.outbox SET leased_until = now() WHERE kind = 'signal' RETURNING id"
    )
    assert await taken(store) == [waiting]


async def test_thousands_of_waiting_signals_do_not_hide_what_is_due_behind_them(
    store: Database,
) -> None:
    run_id = new_id()
    await accepted_signal(store, run_id)
    await rows(
        store,
        "INSERT INTO {schema}.outbox (id, kind, namespace, run_id, request, leased_until)"
        " SELECT gen_random_uuid(), 'signal', %(namespace)s, %(run_id)s, '', now() - interval '1 h'"
        " FROM generate_series(1, 3000) RETURNING id",
        namespace=NAMESPACE,
        run_id=run_id,
    )
    assert len(await taken(store)) == 1
    other = await accepted_signal(store, new_id())

    async def reached() -> bool:
        return other in await taken(store)

    await eventually(reached, timeout=5)


async def test_many_relays_never_hold_two_signals_of_one_run(store: Database) -> None:
    runs = [new_id() for _ in range(4)]
    told = {run_id: [await accepted_signal(store, run_id) for _ in range(5)] for run_id in runs}
    delivered: dict[UUID, list[UUID]] = {run_id: [] for run_id in runs}
    held: set[UUID] = set()

    async def relay() -> None:
        while sum(map(len, delivered.values())) < 20:
            for signal in await outbox.lease(store, NAMESPACE, limit=3, seconds=30):
                assert signal.kind == "signal"
                assert signal.run_id not in held
                held.add(signal.run_id)
                await asyncio.sleep(0)
                delivered[signal.run_id].append(signal.id)
                held.discard(signal.run_id)
                await outbox.deliver(store, signal)

    async with asyncio.timeout(30):
        await asyncio.gather(*(relay() for _ in range(6)))
    assert delivered == told


@pytest.mark.parametrize("lane", [uuid4(), new_id()])
async def test_a_signal_without_a_run_on_record_says_so(store: Database, lane: UUID) -> None:
    await accepted_signal(store, lane)
    signal = await a_signal(store)
    assert (signal.on_record, signal.run_key) == (False, None)
