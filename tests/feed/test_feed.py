"""The feed hands on every change once, in one order, to those who want it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.factories import NOON, ARun
from tests.feed.feeding import feeding, running, watching
from tests.waiting import eventually
from tracker.core.events import AttemptEnded, AttemptIdentity, AttemptStarted, StepIdentity
from tracker.core.fold import fold
from tracker.core.ids import Ref, activity_key
from tracker.core.status import AttemptOutcome, StepKind, StepStatus
from tracker.feed import sequencer
from tracker.feed.entries import Interest
from tracker.feed.feed import Feed
from tracker.feed.mailbox import WAITING_MAX, Why
from tracker.feed.sequencer import Sequencer
from tracker.models.feed import ChangeFilter
from tracker.store import changes
from tracker.store.changes import changes_within, feed_position, feed_session, sequencer_session
from tracker.store.database import Database, dedicated
from tracker.store.erase import erase
from tracker.store.record import write_batch
from tracker.store.snapshots import take_snapshot


async def write(database: Database, *events: object, announce: bool = True) -> None:
    async with dedicated(database.options) as connection:
        await write_batch(connection, "flowtrail", fold(events), announce=announce)  # type: ignore[arg-type]


async def reached(database: Database, name: str) -> int:
    return getattr(await feed_position(database), name)


def attempts_of(run: ARun) -> tuple[AttemptStarted, AttemptEnded]:
    step = StepIdentity(
        namespace=run.namespace,
        run_key=run.run_key,
        kind=StepKind.ACTIVITY,
        step_key=activity_key("1", NOON),
        name="charge",
    )
    attempt = AttemptIdentity(step=step, number=1, started_at=NOON)
    ended = AttemptEnded(
        attempt=attempt,
        outcome=AttemptOutcome.COMPLETED,
        finished_at=NOON + timedelta(seconds=1),
        closes_step=StepStatus.COMPLETED,
    )
    return AttemptStarted(attempt=attempt, type="charge_card"), ended


async def test_a_run_and_its_steps_come_in_order(store: Database) -> None:
    run = ARun()
    started, ended = attempts_of(run)
    async with feeding(store) as feed:
        watcher = await watching(feed)
        for event in (run.started(metadata={"team": "a"}), started, ended, run.closed()):
            await write(store, event)
        entries = await watcher.until(4)
    told = [(entry.row["kind"], entry.row["status"]) for entry in entries]
    assert told == [
        ("run", "running"),
        ("step", "started"),
        ("step", "completed"),
        ("run", "completed"),
    ]
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    assert all(entry.run_id == run.identity.id for entry in entries)
    assert all(entry.refs == [("order", "o-1")] for entry in entries)
    assert '"team":"a"' in entries[0].text
    assert '"name":"charge"' in entries[1].text


async def test_what_says_nothing_new_is_no_change(store: Database) -> None:
    run = ARun()
    async with feeding(store) as feed:
        watcher = await watching(feed)
        await write(store, run.started(), run.closed())
        await watcher.until(1)
        await write(store, run.started(), run.closed())
        await write(store, run.started())
        assert len(await watcher.rest()) == 1
        await write(store, replace(run.closed(), from_history=True))
        await watcher.until(2)
        await write(store, replace(run.closed(), from_history=True))
        assert len(await watcher.rest()) == 2


async def test_only_what_is_wanted_comes(store: Database) -> None:
    mine, other = ARun(), ARun(ref=Ref("order", "o-2"), workflow_type="Refund")
    async with feeding(store) as feed:
        wanted = [
            await watching(feed, ref_type="order", ref_id="o-1"),
            await watching(feed, run_id=mine.identity.id),
            await watching(feed, workflow_type=["OrderFulfilment"]),
            await watching(feed, ref_type="order", status=["completed"]),
            await watching(feed, kinds=["step"]),
            await watching(feed, ref_type="parcel"),
        ]
        for run in (mine, other):
            await write(store, run.started(), attempts_of(run)[0])
        await write(store, mine.closed())
        counts = [len(await watcher.rest()) for watcher in wanted]
    assert counts == [3, 3, 3, 1, 2, 0]


async def test_a_step_waits_for_its_run_to_be_known(store: Database) -> None:
    run = ARun()
    started, _ = attempts_of(run)
    async with feeding(store) as feed:
        watcher = await watching(feed, ref_type="order", ref_id="o-1")
        await write(store, started)
        assert await watcher.rest() == []
        await write(store, run.started())
        entries = await watcher.until(2)
    assert {entry.row["kind"] for entry in entries} == {"run", "step"}


async def test_what_commits_late_comes_late_and_holds_nothing_up(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequencer, "SETTLED_SECONDS", 0.05)
    first, second = ARun(), ARun(ref=Ref("order", "o-2"), workflow_type="Refund")
    async with feeding(store) as feed, dedicated(store.options) as slow:
        watcher = await watching(feed)
        async with slow.transaction():
            await write_batch(slow, "flowtrail", fold([first.started()]))
            await write(store, second.started())
            assert [e.refs for e in await watcher.until(1)] == [[("order", "o-2")]]
            await asyncio.sleep(0.3)  # Longer than quick rounds look back.
        entries = await watcher.until(2)
    assert entries[1].refs == [("order", "o-1")]
    assert entries[1].pending_id < entries[0].pending_id


async def test_changes_of_a_run_keep_their_order_however_late_one_commits(store: Database) -> None:
    """Also in a round that looks only at what is new."""
    run, step_of, other = ARun(), ARun(workflow_type="Refund"), ARun(workflow_type="Refund")
    scheduled, ended = attempts_of(step_of)
    async with sequencer_session(store.options) as session, dedicated(store.options) as slow:
        async with slow.transaction():
            await write_batch(slow, "flowtrail", fold([run.started()]))
            await write(store, scheduled)  # It waits for its run.
            await write(store, other.started())
            settled = (await session.sequence(0, 100)).highest
            assert settled is not None
        await write(store, step_of.started(), ended)
        await write(store, run.closed())
        round_ = await session.sequence(settled, 100)
    assert round_.moved == 5
    told, _, _ = await changes_within(store, "default", ChangeFilter(), 1, 100)
    statuses = {
        row["run_id"]: [one["status"] for one in told if one["run_id"] == row["run_id"]]
        for row in told
    }
    assert statuses[run.identity.id] == ["running", "completed"]
    assert statuses[step_of.identity.id] == ["started", "running", "completed"]


async def test_who_comes_back_gets_what_it_missed(store: Database) -> None:
    runs = [ARun(ref=Ref("order", f"o-{n}")) for n in range(30)]
    async with feeding(store) as feed:
        everything = await watching(feed)
        for run in runs:
            await write(store, run.started())
        seqs = [entry.seq for entry in await everything.until(30)]
        from_memory = await watching(feed, after=seqs[9])
        assert [e.seq for e in await from_memory.until(20)] == seqs[10:]
    async with feeding(store) as feed:
        from_table = await watching(feed, after=seqs[9])
        assert [e.seq for e in await from_table.until(20)] == seqs[10:]
        one = await watching(feed, after=0, ref_type="order", ref_id="o-7")
        assert [e.seq for e in await one.until(1)] == [seqs[7]]
        assert len(await one.rest()) == 1


async def test_who_is_slow_is_told_and_misses_nothing(store: Database) -> None:
    count = WAITING_MAX + 300
    async with feeding(store) as feed:
        watcher = await watching(feed)
        other = await watching(feed, ref_type="order", ref_id="o-5")
        await asyncio.sleep(0.05)
        events = [ARun(ref=Ref("order", f"o-{n}")).started() for n in range(count)]
        await write(store, *events)
        await eventually(lambda: feed.counters.resyncs > 0)
        entries = await watcher.until(count)
        assert len(await watcher.rest()) == count
        assert len(await other.until(1)) == 1
    assert [entry.seq for entry in entries] == list(range(1, count + 1))
    assert [resync.why for resync in watcher.resyncs] == [Why.SLOW]
    assert other.resyncs == []


async def test_a_place_that_is_gone_is_lost(store: Database) -> None:
    run = ARun()
    async with feeding(store) as feed:
        watcher = await watching(feed)
        await write(store, run.started(), run.closed())
        await watcher.until(1)
        unknown = await watching(feed, after=10**9)
        await unknown.rest()
        assert [resync.why for resync in unknown.resyncs] == [Why.LOST]
    async with dedicated(store.options) as connection:
        await connection.execute("UPDATE flowtrail.feed SET kept_after = last_seq")
    async with feeding(store) as feed:
        late = await watching(feed, after=0)
        await late.rest()
        assert [resync.why for resync in late.resyncs] == [Why.LOST]


async def test_what_is_forgotten_while_it_is_read_is_lost(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(store, *(ARun().started() for _ in range(4)))
    async with sequencer_session(store.options) as session:
        await session.sequence(0, 100)
        window = changes._window  # pyright: ignore[reportPrivateUsage]

        async def forgotten_first(*given: Any) -> Any:
            await session.forget(0, 2)
            return await window(*given)

        monkeypatch.setattr(changes, "_window", forgotten_first)
        slice_ = await Feed(store, "default").read(Interest("default", ChangeFilter()), 1)
    assert (slice_.lost, slice_.entries) == (True, [])


async def test_a_snapshot_and_the_changes_after_it_have_no_gap_and_no_overlap(
    store: Database,
) -> None:
    """Changes that are committed but not in order yet are in the snapshot, and not told again."""
    first, second = ARun(), ARun(ref=Ref("order", "o-2"))
    feed = Feed(store, "default")
    await write(store, first.started())
    taken = await take_snapshot(store, "default", ChangeFilter(), 50)
    assert [run.run_id for run in taken.snapshot.runs] == [first.identity.id]
    assert (taken.snapshot.seq, len(taken.shown)) == (0, 1)
    await write(store, first.closed(), second.started())
    async with running(feed.run(), Sequencer(store.options, keep_seconds=3600).run()):
        watcher = await watching(feed, after=taken.snapshot.seq, shown=taken.shown)
        await watcher.rest(1.5)
        statuses = sorted(entry.row["status"] for entry in watcher.entries)
    assert statuses == ["completed", "running"]


async def test_what_a_snapshot_does_not_show_is_told(store: Database) -> None:
    """Though it was committed before: steps, and runs beyond the first so many."""
    older, newer = ARun(), ARun(ref=Ref("order", "o-2"))
    await write(store, older.started())
    await write(store, newer.started(), *attempts_of(newer))
    feed = Feed(store, "default")
    seen: dict[str, list[str]] = {}
    limits = {"one": 1, "none": 0}
    taken = {
        name: await take_snapshot(store, "default", ChangeFilter(), limit)
        for name, limit in limits.items()
    }
    of_one = await take_snapshot(store, "default", ChangeFilter(run_id=newer.identity.id), 50)
    async with running(feed.run(), Sequencer(store.options, keep_seconds=3600).run()):
        for name, (shown) in (taken | {"run": of_one}).items():
            watcher = await watching(feed, after=shown.snapshot.seq, shown=shown.shown)
            entries = await watcher.rest(1.5)
            seen[name] = [f"{entry.row['kind']} {entry.row['status']}" for entry in entries]
    assert seen == {
        "one": ["run running", "step completed"],
        "none": ["run running", "run running", "step completed"],
        "run": ["run running"],
    }


async def test_old_changes_are_forgotten(store: Database) -> None:
    run = ARun()
    await write(store, run.started(), run.closed())
    async with running(Sequencer(store.options, keep_seconds=3600).run()):
        await eventually(lambda: reached(store, "last_seq"))
    async with dedicated(store.options) as connection:
        await connection.execute(
            "UPDATE flowtrail.change SET sequenced_at = now() - interval '2 hours'"
        )
    async with running(Sequencer(store.options, keep_seconds=3600).run()):
        await eventually(lambda: reached(store, "kept_after"))
    position = await feed_position(store)
    assert position.kept_after == position.last_seq == 1


async def test_forgetting_goes_on_over_holes_and_in_slices(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Erased runs leave holes of any width in the order."""
    monkeypatch.setattr(sequencer, "FORGET_MAX", 2)
    runs = [ARun() for _ in range(8)]
    await write(store, *(run.started() for run in runs))
    async with sequencer_session(store.options) as session, dedicated(store.options) as connection:
        await session.sequence(0, 100)
        await connection.execute(
            "UPDATE flowtrail.change SET sequenced_at = now() - interval '2 hours' WHERE seq < 8"
        )
        await connection.execute("DELETE FROM flowtrail.change WHERE seq IN (1, 2, 3, 5)")
        async with running(Sequencer(store.options, keep_seconds=3600).run()):
            await eventually(lambda: _kept_after(store, 7))
        rows = await connection.execute("SELECT seq FROM flowtrail.change")
        assert [row["seq"] for row in await rows.fetchall()] == [8]


async def _kept_after(store: Database, seq: int) -> bool:
    return await reached(store, "kept_after") == seq


async def test_notifications_do_not_pile_up(store: Database) -> None:
    """Whoever waits takes in all that have come."""
    async with sequencer_session(store.options) as session, feed_session(store.options) as feed:
        await session.listen()
        for _ in range(5):
            await feed.watch()

        async def heard() -> int:
            await session.sequence(0, 100)
            return len(session._connection._notifies_backlog or ())  # pyright: ignore[reportPrivateUsage]

        while await heard() < 5:
            pass
        assert await session.wait(5)
        assert not await session.wait(0)


async def test_backfilled_runs_are_not_announced(store: Database) -> None:
    run = ARun()
    async with feeding(store) as feed:
        watcher = await watching(feed)
        await write(store, run.started(), run.closed(), announce=False)
        assert await watcher.rest(0.3) == []


async def test_a_second_sequencer_takes_over(store: Database) -> None:
    first = Sequencer(store.options, keep_seconds=3600)
    second = Sequencer(store.options, keep_seconds=3600)
    leading = asyncio.create_task(first.run())
    await eventually(lambda: first.counters.leading)
    feed = Feed(store, "default")
    async with running(second.run(), feed.run()):
        await asyncio.sleep(0.2)
        assert not second.counters.leading
        watcher = await watching(feed)
        leading.cancel()
        await write(store, ARun().started())
        await watcher.until(1)
        assert second.counters.leading


async def test_a_step_that_was_told_without_its_run_is_erased_with_it(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PATIENCE", 0.0)
    run = ARun()
    async with feeding(store) as feed:
        watcher = await watching(feed)
        await write(store, attempts_of(run)[0])
        [early] = await watcher.until(1)
        assert (early.run_id, early.run_key) == (None, run.run_key)
        await write(store, run.started())
        await write(store, run.closed(from_history=True))
        await watcher.until(3)
        await erase(store, "default", Ref("order", "o-1"))
        await watcher.until(4)
        assert [entry.seq for entry in await (await watching(feed, after=0)).until(1)] == [4]
    async with store.connection() as connection:
        cursor = await connection.execute("SELECT seq FROM flowtrail.change ORDER BY seq")
        assert [row["seq"] for row in await cursor.fetchall()] == [4]


async def test_what_was_told_of_an_erased_run_is_deleted(store: Database) -> None:
    run, other = ARun(), ARun(ref=Ref("order", "o-2"))
    async with feeding(store) as feed:
        watcher = await watching(feed)
        await write(store, run.started(metadata={"who": "lovelace"}), other.started())
        await write(store, attempts_of(run)[0])
        await write(store, run.closed(from_history=True))
        await watcher.until(4)
        assert len(await (await watching(feed, after=0)).until(4)) == 4
        await erase(store, "default", Ref("order", "o-1"))
        [*_, last] = await watcher.until(5)
        again = await (await watching(feed, after=0)).until(2)
    assert "lovelace" not in last.text
    assert last.erases
    assert [entry.run_id for entry in again] == [other.identity.id, run.identity.id]
    async with store.connection() as connection:
        cursor = await connection.execute("SELECT seq, data FROM flowtrail.change ORDER BY seq")
        rows = await cursor.fetchall()
    assert len(rows) == 2
    assert not any("lovelace" in str(row["data"]) for row in rows)
