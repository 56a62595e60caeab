"""The recorder against a real Postgres: there, away, deaf, unmigrated, or refusing a value."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any, cast

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg.sql import SQL, Identifier

from tests.factories import ARun
from tests.proxy import TcpProxy
from tests.waiting import eventually
from tracker.core.status import RunStatus
from tracker.migrations import migrate
from tracker.recorder.options import RecorderOptions
from tracker.recorder.recorder import Recorder
from tracker.store.database import DatabaseOptions

pytestmark = pytest.mark.filterwarnings("error")


def options(dsn: str, spill: Path, **given: Any) -> RecorderOptions:
    database = DatabaseOptions(dsn, connect_timeout=1, statement_timeout=1)
    return RecorderOptions(database, spill_dir=spill, retry_after=0.2, **given)


@asynccontextmanager
async def recording(given: RecorderOptions) -> AsyncGenerator[Recorder]:
    recorder = Recorder(given)
    await recorder.start()
    try:
        yield recorder
    finally:
        await recorder.stop()


async def rows(dsn: str, table: str) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection[DictRow].connect(
        dsn, row_factory=dict_row
    ) as connection:
        query = SQL("SELECT * FROM flowtrail.{}").format(Identifier(table))
        cursor = await connection.execute(query)
        return await cursor.fetchall()


def has_runs(dsn: str, count: int) -> Callable[[], Any]:
    async def check() -> bool:
        found = len(await rows(dsn, "run"))
        assert found == count
        return True

    return check


async def test_a_settled_event_is_in_the_database(database: str, tmp_path: Path) -> None:
    run = ARun()
    async with recording(options(database, tmp_path, max_wait=5.0)) as recorder:
        recorder.record(run.started(metadata={"color": "red", "size": 4, "tags": ["a"]}))
        recorder.record(run.attempt_started())
        recorder.record(run.attempt_completed())
        await recorder.settle(5)
        (row,) = await rows(database, "run")
        assert (row["status"], row["ref_type"], row["ref_id"]) == ("running", "order", "o-1")
        assert [s["status"] for s in await rows(database, "step")] == ["completed"]
        assert [a["outcome"] for a in await rows(database, "attempt")] == ["completed"]
    labels = {row["key"]: row["value"] for row in await rows(database, "run_label")}
    assert labels == {"color": "red", "size": "4"}


async def test_stop_writes_what_is_left(database: str, tmp_path: Path) -> None:
    async with recording(options(database, tmp_path)) as recorder:
        for _ in range(1200):
            recorder.record(ARun().started())
    assert len(await rows(database, "run")) == 1200
    assert recorder.counters.written == 1200


async def test_events_come_from_any_thread(database: str, tmp_path: Path) -> None:
    async with recording(options(database, tmp_path)) as recorder:

        def many() -> None:
            for _ in range(200):
                recorder.record(ARun().started())

        threads = [Thread(target=many) for _ in range(4)]
        for thread in threads:
            thread.start()
        await eventually(has_runs(database, 800))
        for thread in threads:
            thread.join()


async def test_an_outage_is_bridged_by_the_spill_file(database: str, tmp_path: Path) -> None:
    async with TcpProxy(_port(database)) as proxy:
        given = options(proxy.redirect(database), tmp_path)
        async with recording(given) as recorder:
            recorder.record(ARun().started())
            await eventually(has_runs(database, 1))
            proxy.reset()
            for _ in range(50):
                recorder.record(ARun().started())
            await eventually(lambda: recorder.counters.spilled == 50)
            assert len(await rows(database, "run")) == 1
            proxy.pass_on()
            await eventually(has_runs(database, 51))
        assert recorder.counters.dropped == 0
        assert os.listdir(tmp_path) == []


async def test_a_batch_that_is_too_large_for_one_record_is_spilled_in_parts(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.recorder.spill._RECORD_MAX", 3_000)
    async with TcpProxy(_port(database)) as proxy:
        proxy.reset()
        async with recording(options(proxy.redirect(database), tmp_path)) as recorder:
            for _ in range(20):
                recorder.record(ARun().started())
        assert (recorder.counters.spilled, recorder.counters.dropped) == (20, 0)
    async with recording(options(database, tmp_path)):
        await eventually(has_runs(database, 20))


async def test_what_is_spilled_at_the_stop_is_adopted_by_the_next(
    database: str, tmp_path: Path
) -> None:
    async with TcpProxy(_port(database)) as proxy:
        proxy.reset()
        async with recording(options(proxy.redirect(database), tmp_path)) as recorder:
            for _ in range(20):
                recorder.record(ARun().started())
        assert recorder.counters.spilled == 20
    async with recording(options(database, tmp_path)):
        await eventually(has_runs(database, 20))


async def test_a_deaf_database_costs_one_wait_and_no_more(database: str, tmp_path: Path) -> None:
    async with (
        TcpProxy(_port(database)) as proxy,
        recording(options(proxy.redirect(database), tmp_path)) as recorder,
    ):
        run = ARun()
        recorder.record(run.started())
        await eventually(has_runs(database, 1))
        proxy.hang()
        recorder.record(run.attempt_started())
        began = time.monotonic()
        await recorder.settle(10)
        first = time.monotonic() - began
        await recorder.settle(10)
        assert 0.2 < first < 0.6
        assert time.monotonic() - began - first < 0.1
        proxy.pass_on()
        await eventually(lambda: recorder.counters.written >= 2 or recorder.counters.restored)
        recorder.record(run.attempt_completed())

        async def is_completed() -> bool:
            return [s["status"] for s in await rows(database, "step")] == ["completed"]

        await eventually(is_completed)


async def test_unmigrated_then_migrated(empty_database: str, tmp_path: Path) -> None:
    async with recording(options(empty_database, tmp_path)) as recorder:
        recorder.record(ARun().started())
        await eventually(lambda: recorder.counters.spilled == 1)
        await asyncio.to_thread(migrate, empty_database)
        await eventually(has_runs(empty_database, 1))


async def test_a_poisoned_event_costs_only_itself(database: str, tmp_path: Path) -> None:
    good, bad = [ARun() for _ in range(9)], ARun()
    # Closed without a time of close: a CHECK refuses it, whatever is done.
    poison = replace(bad.closed(), finished_at=cast("Any", None))
    async with recording(options(database, tmp_path)) as recorder:
        for run in good[:5]:
            recorder.record(run.started())
        recorder.record(poison)
        for run in good[5:]:
            recorder.record(run.started())
        await eventually(has_runs(database, 9))
        await eventually(lambda: recorder.counters.poisoned == 1)
    assert recorder.counters.written == 9


async def test_a_poisoned_spill_record_costs_only_its_bad_row(
    database: str, tmp_path: Path
) -> None:
    poison = replace(ARun().closed(), finished_at=cast("Any", None))
    async with TcpProxy(_port(database)) as proxy:
        proxy.reset()
        async with recording(options(proxy.redirect(database), tmp_path)) as recorder:
            recorder.record(ARun().started())
            recorder.record(poison)
            recorder.record(ARun().started())
            await eventually(lambda: recorder.counters.spilled == 3)
            proxy.pass_on()
            await eventually(has_runs(database, 2))
            await eventually(lambda: recorder.counters.poisoned == 1)


async def test_an_event_that_cannot_be_expressed_is_dropped_alone(
    database: str, tmp_path: Path
) -> None:
    async with recording(options(database, tmp_path)) as recorder:
        recorder.record(replace(ARun().closed(), status=cast("Any", object())))
        recorder.record(ARun().started())
        await eventually(has_runs(database, 1))
        await eventually(lambda: recorder.counters.poisoned == 1)


async def test_an_odd_metadata_value_costs_only_itself(database: str, tmp_path: Path) -> None:
    odd = {"object": object(), "big": 2**70, "nul": "a\x00b", "nan": float("nan"), "fine": 1}
    async with recording(options(database, tmp_path)) as recorder:
        recorder.record(ARun().started(metadata=odd))
    (row,) = await rows(database, "run")
    assert row["metadata"] == {"fine": 1}


async def test_a_duplicate_flush_changes_nothing(database: str, tmp_path: Path) -> None:
    run = ARun()
    events = [run.started(), run.attempt_started(), run.attempt_completed(), run.closed()]
    async with recording(options(database, tmp_path)) as recorder:
        for event in events + events[::-1] + events:
            recorder.record(event)
    (row,) = await rows(database, "run")
    assert row["status"] == RunStatus.COMPLETED
    assert len(await rows(database, "step")) == len(await rows(database, "attempt")) == 1


async def test_buffered_never_waits(database: str, tmp_path: Path) -> None:
    given = options(database, tmp_path, durability="buffered", linger=0.05)
    async with recording(given) as recorder:
        recorder.record(ARun().started())
        began = time.monotonic()
        await recorder.settle(5)
        assert time.monotonic() - began < 0.03
        await eventually(has_runs(database, 1))


async def test_records_after_the_stop_are_counted(database: str, tmp_path: Path) -> None:
    async with recording(options(database, tmp_path)) as recorder:
        pass
    recorder.record(ARun().started())
    assert recorder.counters.dropped == 1


async def test_two_recorders_over_the_same_rows_do_not_deadlock(
    database: str, tmp_path: Path
) -> None:
    runs = [ARun() for _ in range(30)]
    async with (
        recording(options(database, tmp_path)) as first,
        recording(options(database, tmp_path)) as second,
    ):
        for _ in range(20):
            for run in runs:
                first.record(run.attempt_started())
                first.record(run.started())
            for run in reversed(runs):
                second.record(run.closed())
                second.record(run.attempt_completed())
            await asyncio.sleep(0)
    statuses = {row["status"] for row in await rows(database, "run")}
    assert statuses == {"completed"}
    assert first.counters.failures == second.counters.failures == 0


def _port(dsn: str) -> int:
    return int(str(conninfo_to_dict(dsn)["port"]))
