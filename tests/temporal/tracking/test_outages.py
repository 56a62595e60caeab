"""Postgres away, deaf, slow or unmigrated: results do not change, and everything arrives later."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from tests.factories import ARun
from tests.proxy import TcpProxy
from tests.temporal.tracking.harness import Handle, Tracked
from tests.temporal.tracking.outage_workflows import Hurrying, work
from tests.waiting import eventually
from tracker.migrations import migrate
from tracker.recorder import recorder as recorder_module
from tracker.recorder.recorder import Recorder
from tracker.store import batch_writer
from tracker.store.schema import check_schema


@pytest.mark.parametrize("trouble", ["hang", "delay", "reset", "unmigrated"])
async def test_a_second_of_time_is_enough(
    tracked: Tracked, empty_database: str, trouble: str
) -> None:
    """0.8 s of work under a start-to-close timeout of 1 s, beside steps of no duration."""
    tracked.expects_trouble = True
    if trouble == "unmigrated":
        tracked.dsn = empty_database
    async with TcpProxy(port(tracked.dsn)) as proxy:
        # As in production: at most a quarter of a second for each step's flush.
        options = tracked.options(proxy.redirect(tracked.dsn), max_wait=0.25)
        async with tracked.worker([Hurrying], [work], client=tracked.client(recorder=options)):
            if trouble == "delay":
                proxy.delay(0.15)
            elif trouble != "unmigrated":
                getattr(proxy, trouble)()
            slow, quick = [
                await tracked.start("Hurrying", seconds, steps)
                for seconds, steps in ((0.8, 1), (0.0, 5))
            ]
            began = time.monotonic()
            assert await quick.result() == 5
            assert time.monotonic() - began < 2
            assert await slow.result() == 1
            proxy.pass_on()
            if trouble == "unmigrated":
                await asyncio.to_thread(migrate, empty_database)
            await eventually(lambda: is_complete(tracked, slow, 1))
            await eventually(lambda: is_complete(tracked, quick, 5))
    assert not list(tracked.spill_dir.glob("*.spill"))


async def test_an_outage_in_the_middle(tracked: Tracked) -> None:
    tracked.expects_trouble = True
    async with TcpProxy(port(tracked.dsn)) as proxy:
        options = tracked.options(proxy.redirect(tracked.dsn))
        async with tracked.worker([Hurrying], [work], client=tracked.client(recorder=options)):
            handle = await tracked.start("Hurrying", 0.1, 6)
            await eventually(lambda: has_step(tracked, handle))
            proxy.reset()
            assert await handle.result() == 6
            proxy.pass_on()
            await eventually(lambda: is_complete(tracked, handle, 6))
    run = await tracked.corrected(handle)
    assert (run.status, run.output) == ("completed", 6)


async def test_a_database_that_refuses_costs_no_wait(tracked: Tracked) -> None:
    tracked.expects_trouble = True
    async with TcpProxy(port(tracked.dsn)) as proxy:
        proxy.reset()
        recorder = Recorder(tracked.options(proxy.redirect(tracked.dsn), max_wait=20.0))
        await recorder.start()
        try:
            for _ in range(3):
                recorder.record(ARun().started())
                async with asyncio.timeout(5):
                    await recorder.settle(20)
        finally:
            await recorder.stop()
    assert (recorder.counters.spilled, recorder.counters.dropped) == (3, 0)


@pytest.mark.parametrize("hurry", [False, True], ids=["patient", "canceled"])
async def test_nothing_is_lost_when_a_deaf_database_outlasts_the_stop(
    tracked: Tracked, monkeypatch: pytest.MonkeyPatch, hurry: bool
) -> None:
    tracked.expects_trouble = True
    monkeypatch.setattr(recorder_module, "_STOP_PATIENCE", 5.0 if hurry else 0.3)
    runs = [ARun(namespace=tracked.namespace) for _ in range(3)]
    async with TcpProxy(port(tracked.dsn)) as proxy:
        recorder = Recorder(tracked.options(proxy.redirect(tracked.dsn)))
        await recorder.start()
        recorder.record(runs[0].started())
        await recorder.settle(5)
        proxy.hang()
        recorder.record(runs[1].started())
        await eventually(lambda: recorder.waiting == 0)
        recorder.record(runs[2].started())
        stopping = asyncio.create_task(recorder.stop())
        if hurry:
            await asyncio.sleep(0)
            stopping.cancel()
        await asyncio.wait({stopping})
    assert (recorder.counters.written, recorder.counters.spilled) == (1, 2)
    successor = Recorder(tracked.options())
    await successor.start()
    await eventually(lambda: successor.counters.restored > 0)
    await successor.stop()
    assert len(await tracked.runs()) == 3


async def test_a_server_that_stops_answering_after_the_connect(
    tracked: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error ends such a wait, for the network acknowledges everything."""
    tracked.expects_trouble = True
    answers = asyncio.Event()

    async def late(*arguments: Any) -> None:
        await answers.wait()
        await check_schema(*arguments)

    monkeypatch.setattr(batch_writer, "check_schema", late)
    database = replace(tracked.options().database, statement_timeout=0.2)
    recorder = Recorder(replace(tracked.options(max_wait=0.1), database=database))
    await recorder.start()
    recorder.record(ARun(namespace=tracked.namespace).started())
    await eventually(lambda: recorder.counters.spilled == 1)
    answers.set()
    await eventually(lambda: recorder.counters.restored == 1)
    await recorder.stop()
    assert len(await tracked.runs()) == 1


async def test_an_event_that_cannot_be_expressed_is_not_spilled_with_others(
    tracked: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked.expects_trouble = True
    async with TcpProxy(port(tracked.dsn)) as proxy:
        proxy.reset()
        recorder = Recorder(tracked.options(proxy.redirect(tracked.dsn)))
        await recorder.start()
        good = [ARun(namespace=tracked.namespace).started() for _ in range(4)]
        bad = replace(good[0], history_length=cast("Any", "three"))
        for event in [*good[:2], bad, *good[2:]]:
            recorder.record(event)
        await eventually(lambda: recorder.counters.spilled == 4)
        proxy.pass_on()
        await eventually(lambda: recorder.counters.restored == 4)
        await recorder.stop()
    assert (recorder.counters.poisoned, recorder.counters.dropped) == (1, 0)
    assert len(await tracked.runs()) == 4


async def test_an_unreadable_spill_folder_stops_nothing(tracked: Tracked, tmp_path: Path) -> None:
    tracked.expects_trouble = True
    (tmp_path / "file").write_text("not a folder")
    recorder = Recorder(tracked.options(spill_dir=tmp_path / "file"))
    await recorder.start()
    recorder.record(ARun(namespace=tracked.namespace).started())
    await recorder.settle(5)
    await recorder.stop()
    assert len(await tracked.runs()) == 1


def port(dsn: str) -> int:
    """Of a database URL."""
    found = urlsplit(dsn).port
    assert found is not None
    return found


async def has_step(tracked: Tracked, handle: Handle) -> bool:
    """Whether the run's first step is on record."""
    return bool((await tracked.run(handle)).steps)


async def is_complete(tracked: Tracked, handle: Handle, steps: int) -> bool:
    """Whether all that the run did is on record."""
    run = await tracked.run(handle)
    assert (run.status, run.output) == ("completed", steps)
    assert run.statuses == [("work", "completed")] * steps
    assert all(step.outcomes == [(1, "completed")] for step in run.steps)
    return True
