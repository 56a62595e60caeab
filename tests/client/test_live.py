"""Watching through the SDK, against a real server that is cut off and restarted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.conftest import api_settings
from tests.api.over_http import listening, watched
from tests.api.recorded import record
from tests.client.conftest import Caller, FakeTime
from tests.client.scripted import RUN_BODY
from tests.factories import ARun
from tests.feed.test_feed import attempts_of
from tests.proxy import TcpProxy
from tests.waiting import eventually
from tracker.client import AsyncTrackerClient, TrackerClient
from tracker.client.sync_live import LATE_BY
from tracker.client.watching import RunWatch, Watch
from tracker.core.ids import Ref
from tracker.core.status import RunStatus
from tracker.embedded.ports import free_port
from tracker.errors import (
    ApiUnavailable,
    Conflict,
    InvalidRequest,
    NotFound,
    RunNotFinished,
    UnexpectedAnswer,
)
from tracker.models.feed import Change, Snapshot, StreamFrom
from tracker.models.wire import RunRead


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "absent.toml"))
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "default")


@pytest.fixture
def url(database: str) -> Iterator[str]:
    with listening(api_settings(database)) as served:
        yield served


@pytest.fixture
async def client(url: str) -> AsyncIterator[AsyncTrackerClient]:
    async with AsyncTrackerClient(url) as opened:
        yield opened


async def test_watching_a_ref(client: AsyncTrackerClient, database: str) -> None:
    run = ARun()
    await record(database, run.started())
    seen: list[Any] = []
    async for told in client.watch(ref="order/o-1"):
        if isinstance(told, Snapshot):
            assert [one.run_id for one in told.runs] == [run.identity.id]
            await record(database, ARun(ref=Ref("order", "o-2")).started())
            await record(database, attempts_of(run)[0])
            await record(database, run.closed())
            continue
        seen.append((told.kind, told.status))
        if len(seen) == 2:
            break
    assert seen == [("step", "started"), ("run", "completed")]


async def test_a_watch_survives_cuts(url: str, database: str) -> None:
    runs = [ARun(ref=Ref("order", f"o-{n}")) for n in range(40)]
    port = int(url.rpartition(":")[2])
    async with (
        TcpProxy(port) as proxy,
        AsyncTrackerClient(f"http://127.0.0.1:{proxy.port}") as client,
    ):
        seqs: list[int] = []

        async def write() -> None:
            for number, run in enumerate(runs):
                await record(database, run.started())
                if number % 8 == 4:
                    proxy.reset()
                    await asyncio.sleep(0.05)
                    proxy.pass_on()

        writing = asyncio.create_task(write())
        async with asyncio.timeout(30):
            async for told in client.watch(after=0):
                assert isinstance(told, Change)
                seqs.append(told.seq)
                if len(seqs) == len(runs):
                    break
        await writing
    assert seqs == list(range(1, len(runs) + 1))


async def test_waiting_for_a_run(client: AsyncTrackerClient, url: str, database: str) -> None:
    run = ARun()
    await record(database, run.started())
    waiting = asyncio.create_task(client.wait_for(run.run_key, "completed", timeout=10))
    other = asyncio.create_task(client.wait_for(run.identity.id, lambda r: r.metadata == {"a": 1}))
    await eventually(lambda: watched(url, 2))
    await record(database, run.started(metadata={"a": 1}))
    assert (await other).status is RunStatus.RUNNING
    await record(database, run.closed())
    assert (await waiting).status is RunStatus.COMPLETED
    assert (await client.wait_for(run.identity.id)).status is RunStatus.COMPLETED
    await record(database, run.closed(from_history=True))
    with pytest.raises(Conflict, match="has ended as completed; it will not be failed"):
        await client.wait_for(run.identity.id, "failed", timeout=10)


async def test_waiting_in_vain(client: AsyncTrackerClient, url: str, database: str) -> None:
    run = ARun()
    await record(database, run.started())
    with pytest.raises(RunNotFinished):
        await client.wait_for(run.identity.id, timeout=0.3)
    with TrackerClient(url) as blocking, pytest.raises(RunNotFinished):
        await asyncio.to_thread(blocking.wait_for, run.identity.id, timeout=0.3)
    with pytest.raises(NotFound):
        await client.wait_for("01935f00-0000-7000-8000-000000000001")


async def test_the_blocking_client(url: str, database: str) -> None:
    run = ARun()
    await record(database, run.started())
    with TrackerClient(url) as client:
        waiting = asyncio.create_task(asyncio.to_thread(client.wait_for, run.identity.id))
        await eventually(lambda: watched(url))
        await record(database, run.closed())
        assert (await waiting).status is RunStatus.COMPLETED
        page = await asyncio.to_thread(client.changes, wait=5)
        assert [change.status for change in page.changes] == ["running", "completed"]
        events = client.watch(ref="order/o-1", after=0)
        first = await asyncio.to_thread(next, events)
        assert isinstance(first, Change)
        events.close()
        assert client.ticket().ticket.startswith("ftt_")


async def test_reporting(client: AsyncTrackerClient) -> None:
    reported = await client.report_run(
        own_id="job-7", workflow_type="nightly", ref="job/7", status="running", input={"day": 1}
    )
    assert reported.created
    step = await client.report_step(reported.run_id, "fetch", "started", index=1)
    await client.report_step(
        reported.run_id, "fetch", "completed", index=1, output={"rows": 3}, attempt=1
    )
    ended = await client.report_run(own_id="job-7", status="completed", output="done")
    assert not ended.created
    run = await client.get_run(reported.run_id)
    assert (run.status, run.engine) == ("completed", "external")
    assert [(one.step_id, one.status) for one in run.steps] == [(step.step_id, "completed")]
    assert await client.result(reported.run_id) == "done"
    with pytest.raises(Conflict):
        await client.report_run(own_id="job-7", status="failed")
    with pytest.raises(NotFound, match="report the run before"):
        await client.report_step("01935f00-0000-7000-8000-000000000001", "s", "started")
    await client.report_run(own_id="job-7", status="running")
    with pytest.raises(Conflict, match="driven by external"):
        await client.cancel(reported.run_id)


async def test_a_first_report_may_tell_of_a_sleep(client: AsyncTrackerClient) -> None:
    until = datetime(2099, 1, 1, tzinfo=UTC)
    reported = await client.report_run(
        own_id="job-8", workflow_type="nightly", status="running", sleep_until=until
    )
    run = await client.get_run(reported.run_id)
    assert run.waiting_on == [{"kind": "timer", "until": until.isoformat()}]


async def test_a_report_of_a_run_that_temporal_drives(
    client: AsyncTrackerClient, database: str
) -> None:
    run = ARun()
    await record(database, run.started())
    for id_ in (run.identity.id, run.run_key):
        with pytest.raises(Conflict, match="driven by Temporal"):
            await client.report_run(run_id=id_, workflow_type="nightly", status="completed")
        with pytest.raises(Conflict, match="driven by Temporal"):
            await client.report_step(id_, "fetch", "started")


async def test_nobody_there() -> None:
    async with AsyncTrackerClient(f"http://127.0.0.1:{free_port()}", retries=1) as client:
        with pytest.raises(ApiUnavailable):
            async for _ in client.watch():
                pass


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="done"):
        RunWatch("done")
    with TrackerClient("http://127.0.0.1:1") as client:
        with pytest.raises(InvalidRequest):
            client.watch(ref="no ref")
        with pytest.raises(InvalidRequest):
            client.watch(run="no id")


def test_where_a_watch_goes_on() -> None:
    watch = Watch(StreamFrom(), retries=0)
    assert "Last-Event-ID" not in watch.request(1.0)["headers"]
    text = "retry: 1000\n\nid: 7\n\n: a comment\r\n\r\nid: 9\nevent: resync\nda"
    assert list(watch.read(text)) == []
    assert watch.request(1.0)["headers"]["Last-Event-ID"] == "7"
    watch.interrupted(None)
    assert list(watch.read("\n")) == []
    assert watch.request(1.0)["headers"]["Last-Event-ID"] == "7"


async def test_texts_with_what_others_take_for_the_end_of_a_line(
    client: AsyncTrackerClient, url: str, database: str
) -> None:
    odd = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\r\nh"
    await record(database, ARun().started(metadata={"said": odd}))
    async for told in client.watch(after=0):
        assert isinstance(told, Change)
        assert told.run is not None
        assert told.run.metadata == {"said": odd}
        break
    with TrackerClient(url) as blocking:
        told = await asyncio.to_thread(next, blocking.watch())
    assert isinstance(told, Snapshot)
    assert told.runs[0].metadata == {"said": odd}


EVENTS = {"Content-Type": "text/event-stream; charset=utf-8"}


async def test_a_page_in_place_of_the_feed(caller: Caller) -> None:
    """As a wrong base_url gives."""

    def page(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, html="<html>log in</html>")

    with pytest.raises(UnexpectedAnswer, match="with a page, not with events; check base_url"):
        await caller.call(page, "watch")


def test_a_page_in_the_middle_is_an_interruption() -> None:
    request = httpx.Request("GET", "http://tracker.test/v1/stream")
    page = httpx.Response(200, html="<html>back soon</html>", request=request)
    watch = Watch(StreamFrom(), retries=0)
    assert isinstance(watch.refused(page), UnexpectedAnswer)
    list(watch.read("id: 7\n\n"))
    assert isinstance(watch.refused(page), ApiUnavailable)


def test_a_long_interruption_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch(StreamFrom(), retries=2)
    list(watch.read("id: 7\n\n"))
    for _ in range(9):
        watch.interrupted(ApiUnavailable("gone", sent=False))
    [line] = caplog.messages
    assert line.startswith("nothing is heard of what is watched, trying on")


class Heartbeats(httpx.SyncByteStream):
    """One every 15 s, as long as the client is ready to wait for it."""

    def __init__(self, time: FakeTime, patience: float) -> None:
        self._time = time
        self._patience = patience

    def __iter__(self) -> Iterator[bytes]:
        while self._patience > 15:
            self._time.sleep(15)
            yield b"id: 5\n\n"
        self._time.sleep(self._patience)
        raise httpx.ReadTimeout("nothing came")


def test_heartbeats_do_not_prolong_a_wait() -> None:
    time = FakeTime()

    def answer(request: httpx.Request) -> httpx.Response:
        patience = request.extensions["timeout"]["read"]
        return httpx.Response(200, headers=EVENTS, stream=Heartbeats(time, patience))

    transport = httpx.MockTransport(answer)
    began = time.now
    with (
        TrackerClient(
            "http://tracker.test", transport=transport, clock=time.clock, sleep=time.sleep
        ) as client,
        pytest.raises(RunNotFinished, match="after 100 s"),
    ):
        client.wait_for("01935f00-0000-7000-8000-000000000001", timeout=100)
    assert 100 <= time.now - began <= 100 + LATE_BY


class SlowSnapshot(httpx.SyncByteStream):
    """A snapshot that comes in two parts, the first more than a second late."""

    def __init__(self, time: FakeTime) -> None:
        self._time = time

    def __iter__(self) -> Iterator[bytes]:
        ended = RunRead.model_validate(RUN_BODY | {"status": "completed"})
        snapshot = Snapshot(seq=1, runs=[ended], steps=[]).model_dump_json()
        text = f"id: 1\nevent: snapshot\ndata: {snapshot}\n\n".encode()
        for part in (text[:40], text[40:]):
            self._time.sleep(1.2)
            yield part


def test_a_wait_does_not_cut_what_it_waits_for() -> None:
    time = FakeTime()
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, headers=EVENTS, stream=SlowSnapshot(time))
    )
    with TrackerClient(
        "http://tracker.test", transport=transport, clock=time.clock, sleep=time.sleep
    ) as client:
        run = client.wait_for("01935f00-0000-7000-8000-000000000001", timeout=20)
    assert run.status is RunStatus.COMPLETED


def test_a_condition_that_an_ended_run_does_not_meet() -> None:
    ended = RunRead.model_validate(RUN_BODY | {"status": "completed", "from_history": True})
    with pytest.raises(Conflict, match="ended as completed; it will not be as the condition wants"):
        RunWatch(lambda run: run.metadata == {"a": 1}).look(Snapshot(seq=1, runs=[ended], steps=[]))
