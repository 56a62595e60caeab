"""The relay's manners: how many at once, how it treats what is away, how it stops."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from tests.proxy import TcpProxy
from tests.starts import NAMESPACE, accepted, count, encoded, rows, run_row
from tests.store.test_signal_order import accepted_signal
from tests.waiting import eventually
from tracker.core.ids import new_id
from tracker.errors import TemporalUnavailable
from tracker.outbox import Delivered, Outcome, Relay, RelayOptions, Retry, SignalOutcome, Started
from tracker.store import dead_entries, outbox
from tracker.store.database import Database, DatabaseOptions
from tracker.store.dead_entries import FAILURES_MAX
from tracker.store.outbox import LeasedSignal, LeasedStart


class ScriptedTemporal:
    """Starts everything; while `away` nothing, and while `busy` it takes its time."""

    def __init__(self) -> None:
        self.away = False
        self.busy = asyncio.Event()
        self.busy.set()
        self.started: list[UUID] = []
        self.signaled: list[UUID] = []
        self.broken: set[UUID] = set()
        self.stuck: set[UUID] = set()
        self.tried = 0
        self.under_way = 0
        self.most_under_way = 0

    async def start(self, start: LeasedStart) -> Outcome:
        self.tried += 1
        if start.id in self.broken:
            raise KeyError("nobody expected this")
        if start.id in self.stuck:
            return Retry(TemporalUnavailable("stuck"))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.busy.wait()
            await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        if self.away:
            return Retry(TemporalUnavailable("away"))
        self.started.append(start.id)
        return Started(new_id())

    async def find(self, start: LeasedStart) -> Started | Retry | None:
        return None

    async def cancel(self, start: LeasedStart, run_key: UUID) -> Retry | None:
        return None

    async def reachable(self) -> bool:
        return not self.away

    async def signal(self, signal: LeasedSignal) -> SignalOutcome:
        self.signaled.append(signal.id)
        return Delivered()


async def accept_many(store: Database, number: int) -> list[UUID]:
    starts = [encoded() for _ in range(number)]
    for start in starts:
        await accepted(store, start)
    return [start.id for start in starts]


async def test_what_is_due_starts_with_bounded_concurrency(store: Database) -> None:
    ids, temporal = await accept_many(store, 20), ScriptedTemporal()
    temporal.busy.clear()
    options = RelayOptions(concurrency=4, poll=0.05)
    async with Relay(store, NAMESPACE, temporal, options) as relay:
        await eventually(lambda: temporal.under_way == 4)
        temporal.busy.set()
        await eventually(lambda: relay.counters.started == 20)
    assert temporal.most_under_way == 4
    assert sorted(temporal.started) == sorted(ids)
    assert await count(store, "outbox") == 0


async def test_while_temporal_is_away_one_start_at_a_time_is_tried(store: Database) -> None:
    await accept_many(store, 30)
    temporal = ScriptedTemporal()
    temporal.away = True
    options = RelayOptions(concurrency=3, poll=0.02, pause_max=0.2)
    async with Relay(store, NAMESPACE, temporal, options) as relay:
        await eventually(lambda: relay.counters.put_back >= 6)
        # The first round did not know; each later one tried a single start.
        untouched = await rows(store, "SELECT id FROM {schema}.outbox WHERE tries = 0")
        assert len(untouched) >= 30 - temporal.tried - 1
        assert temporal.tried < 12
        temporal.away = False
        await eventually(lambda: relay.counters.started >= len(untouched))


async def test_a_wake_spares_the_wait(store: Database) -> None:
    temporal = ScriptedTemporal()
    async with Relay(store, NAMESPACE, temporal, RelayOptions(poll=60)) as relay:
        await accept_many(store, 1)
        relay.wake()
        await eventually(lambda: temporal.started)


async def test_a_database_that_is_away_is_waited_for(store: Database, database: str) -> None:
    temporal = ScriptedTemporal()
    port = int(database.rsplit(":", 1)[1].split("/")[0])
    async with TcpProxy(port) as proxy:
        proxy.reset()
        through = DatabaseOptions(proxy.redirect(database), connect_timeout=0.5)
        options = RelayOptions(poll=0.05, pause_max=0.2)
        async with Database(through) as away, Relay(away, NAMESPACE, temporal, options) as relay:
            await eventually(lambda: relay.counters.failures)
            await accept_many(store, 3)
            proxy.pass_on()
            await eventually(lambda: relay.counters.started == 3)


async def test_a_stop_lets_starts_under_way_end(store: Database) -> None:
    [run_id] = await accept_many(store, 1)
    temporal = ScriptedTemporal()
    temporal.busy.clear()
    async with Relay(store, NAMESPACE, temporal, RelayOptions(poll=0.05)):
        await eventually(lambda: temporal.under_way)
        asyncio.get_running_loop().call_later(0.1, temporal.busy.set)
    assert (await run_row(store, run_id))["status"] == "running"


async def test_a_start_that_outlasts_the_stop_is_left_to_the_next_relay(store: Database) -> None:
    [run_id] = await accept_many(store, 1)
    stuck = ScriptedTemporal()
    stuck.busy.clear()
    async with Relay(store, NAMESPACE, stuck, RelayOptions(poll=0.05, lease=0.3, grace=0.1)):
        await eventually(lambda: stuck.under_way)
    assert stuck.under_way == 0

    async with Relay(store, NAMESPACE, ScriptedTemporal(), RelayOptions(poll=0.05)) as relay:
        await eventually(lambda: relay.counters.started)
    assert (await run_row(store, run_id))["status"] == "running"


async def test_a_start_that_fails_unexpectedly_dies_alone(
    store: Database, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "BACKOFF_MAX", 0.02)
    ids, temporal = await accept_many(store, 6), ScriptedTemporal()
    temporal.broken.add(ids[0])
    async with Relay(store, NAMESPACE, temporal, RelayOptions(poll=0.02)) as relay:
        await eventually(lambda: relay.counters.started == 5)
        await eventually(lambda: relay.counters.dead == 1)
        assert relay.counters.failures == FAILURES_MAX
    [entry] = await dead_entries.list_entries(store, NAMESPACE, dead=True, limit=10)
    assert (entry.id, entry.last_error) == (ids[0], "KeyError: 'nobody expected this'")
    [told] = [record for record in caplog.records if record.event == "outbox.dead"]  # type: ignore[attr-defined]
    assert f"`flowtrail outbox retry {ids[0]}`" in told.getMessage()


async def test_entries_that_are_stuck_do_not_starve_the_others(store: Database) -> None:
    stuck, temporal = await accept_many(store, 150), ScriptedTemporal()
    temporal.stuck.update(stuck)
    options = RelayOptions(poll=0.02, pause_max=0.2)
    async with Relay(store, NAMESPACE, temporal, options) as relay:
        await eventually(lambda: relay.counters.put_back > 10)
        fine = await accept_many(store, 20)
        await eventually(lambda: relay.counters.started == 20, timeout=60)
    assert sorted(temporal.started) == sorted(fine)


async def test_another_namespace_that_is_stuck_is_no_matter(store: Database) -> None:
    for _ in range(50):
        await accepted(store, encoded("elsewhere"))
    await accept_many(store, 3)
    temporal = ScriptedTemporal()
    async with Relay(store, NAMESPACE, temporal, RelayOptions(poll=0.02)) as relay:
        await eventually(lambda: relay.counters.started == 3)
    assert await count(store, "outbox") == 50


async def test_signals_go_out_at_once_after_each_other(store: Database) -> None:
    run_id = new_id()
    ids = [await accepted_signal(store, run_id) for _ in range(5)]
    temporal = ScriptedTemporal()
    async with Relay(store, NAMESPACE, temporal, RelayOptions(poll=60)) as relay:
        relay.wake()
        await eventually(lambda: relay.counters.signaled == 5)
    assert temporal.signaled == ids
