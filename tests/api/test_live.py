"""Changes reach those who watch, over every way there is, and after every kind of interruption."""

from __future__ import annotations

import asyncio
import json
import socket as socketlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api.live import watching
from api.live.watching import Beginning
from api.settings import ApiSettings
from tests.api.conftest import api_settings
from tests.api.over_http import listening, watched
from tests.api.recorded import record
from tests.factories import ARun
from tests.waiting import eventually
from tracker.core.ids import Ref
from tracker.core.status import RunStatus
from tracker.errors import DatabaseUnavailable
from tracker.store import changes, keys
from tracker.store.changes import sequencer_session
from tracker.store.database import Database, DatabaseOptions

SOON = 10.0


@pytest.fixture
def served_api(settings: ApiSettings) -> Iterator[str]:
    """URL of a real server with auth off."""
    with listening(settings) as url:
        yield url


@pytest.fixture
async def http(served_api: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served_api, timeout=SOON) as client:
        yield client


@asynccontextmanager
async def socket(url: str, query: str = "", **options: Any) -> AsyncGenerator[ClientConnection]:
    async with connect(f"{url.replace('http', 'ws', 1)}/v1/ws{query}", **options) as opened:
        yield opened


async def ask(opened: ClientConnection, **frame: Any) -> None:
    await opened.send(json.dumps(frame))


async def frame(opened: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(SOON):
        return json.loads(await opened.recv())


async def frames(opened: ClientConnection, count: int) -> list[dict[str, Any]]:
    return [await frame(opened) for _ in range(count)]


def told(received: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(f["id"], f["change"]["kind"], f["change"]["status"]) for f in received]


async def test_a_socket_with_several_subscriptions(served_api: str, database: str) -> None:
    mine, other = ARun(), ARun(ref=Ref("order", "o-2"), workflow_type="Refund")
    await record(database, mine.started(metadata={"team": "a"}))
    async with socket(served_api) as opened:
        await ask(
            opened, type="subscribe", id="mine", filters={"ref_type": "order", "ref_id": "o-1"}
        )
        snapshot = await frame(opened)
        assert (snapshot["type"], snapshot["id"]) == ("snapshot", "mine")
        [run] = snapshot["snapshot"]["runs"]
        assert (run["run_id"], run["status"]) == (str(mine.identity.id), "running")
        await ask(opened, type="subscribe", id="ends", filters={"status": "completed"})
        assert (await frame(opened))["snapshot"]["runs"] == []
        await record(database, other.started())
        await record(database, mine.closed())
        await record(database, other.closed())
        received = await frames(opened, 3)
        assert sorted(told(received)) == [
            ("ends", "run", "completed"),
            ("ends", "run", "completed"),
            ("mine", "run", "completed"),
        ]
        change = next(f["change"] for f in received if f["id"] == "mine")
        assert change["run"]["metadata"] == {"team": "a"}
        assert change["run_id"] == str(mine.identity.id)
        assert (change["ref_type"], change["ref_id"]) == ("order", "o-1")
        await ask(opened, type="unsubscribe", id="ends")
        assert await frame(opened) == {"type": "unsubscribed", "id": "ends"}
        await ask(opened, type="ping")
        assert await frame(opened) == {"type": "pong"}


async def test_a_snapshot_of_one_run_has_its_steps(served_api: str, database: str) -> None:
    from tests.feed.test_feed import attempts_of

    run = ARun()
    started, ended = attempts_of(run)
    await record(database, run.started(), started)
    async with socket(served_api) as opened:
        by_temporal = {"run_id": str(run.run_key)}
        await ask(opened, type="subscribe", id="1", filters=by_temporal)
        snapshot = (await frame(opened))["snapshot"]
        assert [step["name"] for step in snapshot["steps"]] == ["charge"]
        await record(database, ended)
        change = (await frame(opened))["change"]
        assert (change["kind"], change["status"]) == ("step", "completed")
        assert change["step"]["name"] == "charge"


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ("no json", "Invalid JSON"),
        ("[]", "be an object"),
        ('{"type":"shout"}', "'shout'"),
        ('{"type":"subscribe"}', "subscribe.id"),
        ('{"type":"subscribe","id":"x","filters":{"run":"1"}}', "filters.run"),
        ('{"type":"subscribe","id":"x","filters":{"ref_id":"1"}}', "ref_type"),
        ('{"type":"subscribe","id":"x","filters":{"status":"done"}}', "status"),
        ('{"type":"subscribe","id":"x","after":-1}', "after"),
        ('{"type":"unsubscribe","id":"x"}', "no subscription 'x'"),
        (
            '{"type":"subscribe","id":"x","filters":'
            '{"run_id":"01935f00-0000-7000-8000-000000000001"}}',
            "there is no run",
        ),
    ],
)
async def test_a_wrong_frame_is_answered_and_harms_nothing(
    served_api: str, sent: str, message: str
) -> None:
    async with socket(served_api) as opened:
        await opened.send(sent)
        answer = await frame(opened)
        assert answer["type"] == "error"
        assert message in answer["message"]
        assert answer.get("id") == ("x" if '"x"' in sent else None)
        await ask(opened, type="subscribe", id="x")
        assert (await frame(opened))["type"] == "snapshot"
        await ask(opened, type="subscribe", id="x")
        assert (await frame(opened))["error"] == "conflict"


async def test_coming_back_after_a_cut(served_api: str, database: str) -> None:
    runs = [ARun(ref=Ref("order", f"o-{n}")) for n in range(6)]
    async with socket(served_api) as opened:
        await ask(opened, type="subscribe", id="all", snapshot=0)
        await frame(opened)
        for run in runs[:3]:
            await record(database, run.started())
        seqs = [f["change"]["seq"] for f in await frames(opened, 2)]
    for run in runs[3:]:
        await record(database, run.started())
    async with socket(served_api) as opened:
        await ask(opened, type="subscribe", id="all", after=seqs[-1])
        assert await frame(opened) == {"type": "subscribed", "id": "all", "seq": seqs[-1]}
        seqs += [f["change"]["seq"] for f in await frames(opened, 4)]
    assert seqs == sorted(set(seqs))
    assert len(seqs) == 6


async def test_an_unknown_place_begins_with_a_snapshot(served_api: str, database: str) -> None:
    await record(database, ARun().started())
    async with socket(served_api) as opened:
        await ask(opened, type="subscribe", id="all", after=10**6)
        assert (await frame(opened))["type"] == "subscribed"
        assert await frame(opened) == {"type": "resync", "id": "all", "reason": "lost"}
        assert len((await frame(opened))["snapshot"]["runs"]) == 1


async def test_a_server_that_stops_says_so(settings: ApiSettings) -> None:
    with listening(settings) as url:
        opened = await connect(url.replace("http", "ws", 1) + "/v1/ws")
        await ask(opened, type="subscribe", id="all")
        await frame(opened)
        stream = asyncio.create_task(read_stream(url))
        await eventually(lambda: watched(url, 2))
    with pytest.raises(ConnectionClosed) as closed:
        await frame(opened)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert "event: snapshot" in await stream


async def read_stream(url: str) -> str:
    async with (
        httpx.AsyncClient(timeout=SOON) as client,
        client.stream("GET", f"{url}/v1/stream") as r,
    ):
        return "".join([text async for text in r.aiter_text()])


async def events(
    client: httpx.AsyncClient, count: int, headers: dict[str, str] | None = None, **query: Any
) -> list[dict[str, str]]:
    """So many events of a stream, by their fields; comments and bare ids left out."""
    found: list[dict[str, str]] = []
    async with asyncio.timeout(SOON):
        async with client.stream("GET", "/v1/stream", params=query, headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line:
                    fields[name] = value
                    continue
                if "data" in fields:
                    found.append(fields)
                    if len(found) == count:
                        return found
                fields = {}
    return found


async def test_server_sent_events(http: httpx.AsyncClient, database: str) -> None:
    run = ARun()
    await record(database, run.started())
    waiting = asyncio.create_task(events(http, 2, ref_type="order", ref_id="o-1"))
    await eventually(lambda: watched(str(http.base_url)))
    await record(database, ARun(ref=Ref("order", "o-2")).started())
    await record(database, run.closed(RunStatus.FAILED))
    first, second = await waiting
    assert first["event"] == "snapshot"
    assert len(json.loads(first["data"])["runs"]) == 1
    change = json.loads(second["data"])
    assert second["event"] == "change"
    assert (change["status"], str(change["seq"])) == ("failed", second["id"])
    again = await events(http, 3, {"Last-Event-ID": "0"}, ref_type="order")
    assert again[-1] == second
    assert [event["event"] for event in again] == ["change"] * 3


async def test_a_lost_stream_gets_its_snapshot_however_long_that_takes(
    http: httpx.AsyncClient, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats would move its place past what it never got."""
    troubles = iter([DatabaseUnavailable("the pool is exhausted")] * 2)

    async def begin(*given: Any) -> Beginning:
        if given[3] is None and (trouble := next(troubles, None)) is not None:
            raise trouble
        return await watching.begin(*given)

    monkeypatch.setattr("api.live.stream.begin", begin)
    monkeypatch.setattr("api.live.stream.AGAIN_AFTER", 0.01)
    monkeypatch.setattr("api.live.stream.HEARTBEAT", 0.1)
    await record(database, ARun().started())
    async with sequencer_session(DatabaseOptions(database)) as session:
        await session.sequence(0, 100)
    lost, snapshot = await events(http, 2, after=10**6)
    assert lost["event"] == "resync"
    assert (snapshot["event"], snapshot["id"]) == ("snapshot", "1")


async def test_pages_of_changes(http: httpx.AsyncClient, database: str) -> None:
    runs = [ARun(ref=Ref("order", f"o-{n}")) for n in range(5)]
    await record(database, *[run.started() for run in runs])
    page = (await http.get("/v1/changes", params={"wait": 5, "limit": 3})).json()
    seen = page["changes"]
    while len(seen) < 5:
        asked = {"wait": 5, "limit": 3, "after": page["last_seq"]}
        page = (await http.get("/v1/changes", params=asked)).json()
        seen += page["changes"]
    assert [change["seq"] for change in seen] == [1, 2, 3, 4, 5]
    waiting = asyncio.create_task(
        http.get(
            "/v1/changes", params={"wait": 5, "after": 5, "ref_type": "order", "ref_id": "o-3"}
        )
    )
    await eventually(lambda: watched(str(http.base_url)))
    await record(database, runs[0].closed())
    await record(database, runs[3].closed())
    [change] = (await waiting).json()["changes"]
    assert (change["ref_id"], change["status"]) == ("o-3", "completed")
    gone = await http.get("/v1/changes", params={"after": 10**6})
    assert gone.status_code == 410
    assert gone.json()["error"] == "changes_gone"
    assert gone.json()["details"]["last_seq"] == 7


async def test_all_that_are_kept_while_some_are_forgotten(
    http: httpx.AsyncClient, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record(database, *(ARun().started() for _ in range(6)))
    async with sequencer_session(DatabaseOptions(database)) as session:
        await session.sequence(0, 100)
        window = changes._window  # pyright: ignore[reportPrivateUsage]
        slices = iter([2, 2])

        async def forgotten_first(*given: Any) -> Any:
            if slice_ := next(slices, None):
                await session.forget(0, slice_)
            return await window(*given)

        monkeypatch.setattr(changes, "_window", forgotten_first)
        page = (await http.get("/v1/changes", params={"after": 0})).json()
    assert [change["seq"] for change in page["changes"]] == [5, 6]


async def test_nothing_to_wait_for(http: httpx.AsyncClient) -> None:
    page = (await http.get("/v1/changes", params={"wait": 0.2})).json()
    assert page == {"changes": [], "last_seq": 0, "more": False}


@asynccontextmanager
async def guarded(database: str, **given: Any) -> AsyncGenerator[tuple[str, Database]]:
    """A real server with auth on."""
    with listening(api_settings(database, auth="on", **given)) as url:
        async with Database(DatabaseOptions(database)) as pool:
            yield url, pool


async def test_who_may_connect(database: str) -> None:
    async with guarded(database, allowed_origins=("https://ours.example",)) as (url, pool):
        _, reader = await keys.create(pool, "reader", ["read"])
        _, starter = await keys.create(pool, "starter", ["start"])
        for headers, status in (
            ({}, 401),
            ({"X-API-Key": "ft_x"}, 401),
            ({"X-API-Key": starter}, 403),
        ):
            with pytest.raises(InvalidStatus) as refused:
                async with socket(url, additional_headers=headers):
                    pass
            assert refused.value.response.status_code == status
            assert json.loads(refused.value.response.body)["class"] == "invalid"
        with pytest.raises(InvalidStatus) as refused:
            async with socket(
                url, additional_headers={"X-API-Key": reader}, origin="https://evil.example"
            ):
                pass
        assert refused.value.response.status_code == 403
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": reader}) as client:
            ticket = (await client.post("/v1/tickets")).json()["ticket"]
            other = (await client.post("/v1/tickets")).json()["ticket"]
        async with socket(url, f"?ticket={ticket}", origin="https://ours.example") as opened:
            await ask(opened, type="subscribe", id="all")
            assert (await frame(opened))["type"] == "snapshot"
        with pytest.raises(InvalidStatus):
            async with socket(url, f"?ticket={ticket}"):
                pass
        async with httpx.AsyncClient(base_url=url) as anybody:
            assert len(await events(anybody, 1, ticket=other)) == 1
            refused_answer = await anybody.get("/v1/stream", params={"ticket": other})
            assert refused_answer.status_code == 401


async def test_a_ticket_ends_with_its_key(database: str) -> None:
    async with guarded(database) as (url, pool):
        _, reader = await keys.create(pool, "reader", ["read"])
        async with httpx.AsyncClient(base_url=url) as client:
            issued = await client.post("/v1/tickets", headers={"X-API-Key": reader})
            await keys.revoke(pool, "reader")
            refused = await client.get("/v1/stream", params={"ticket": issued.json()["ticket"]})
    assert refused.status_code == 401
    assert "has ended" in refused.json()["message"]


async def test_who_is_kept_to_some_runs_sees_no_others(database: str) -> None:
    mine, other = ARun(), ARun(ref=Ref("parcel", "p-1"))
    async with guarded(database) as (url, pool):
        only = keys.Restriction(ref_types=["order"])
        _, secret = await keys.create(pool, "narrow", ["read"], None, only)
        async with socket(url, additional_headers={"X-API-Key": secret}) as opened:
            await ask(opened, type="subscribe", id="all")
            await frame(opened)
            await ask(opened, type="subscribe", id="others", filters={"ref_type": "parcel"})
            assert (await frame(opened))["error"] == "not_allowed"
            await record(database, other.started())
            await record(database, mine.started())
            change = (await frame(opened))["change"]
            assert change["run_id"] == str(mine.identity.id)
            by_run = {"run_id": str(other.identity.id)}
            await ask(opened, type="subscribe", id="theirs", filters=by_run)
            assert (await frame(opened))["error"] == "not_found"


async def test_a_revoked_key_is_cut_off(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.live.connection.RECHECK_EVERY", 0.1)
    async with guarded(database) as (url, pool):
        _, secret = await keys.create(pool, "reader", ["read"])
        async with socket(url, additional_headers={"X-API-Key": secret}) as opened:
            await ask(opened, type="subscribe", id="all")
            await frame(opened)
            await keys.revoke(pool, "reader")
            with pytest.raises(ConnectionClosed) as closed:
                await frame(opened)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


async def test_a_process_takes_so_many_connections(database: str) -> None:
    with listening(api_settings(database, live_connections=1)) as url:
        async with socket(url) as opened:
            await ask(opened, type="ping")
            await frame(opened)
            with pytest.raises(InvalidStatus) as refused:
                async with socket(url):
                    pass
            assert refused.value.response.status_code == 503
            async with httpx.AsyncClient(base_url=url) as client:
                assert (await client.get("/v1/stream")).status_code == 503


async def test_many_who_connect_at_once_are_not_too_many(database: str) -> None:
    async with guarded(database, live_connections=2) as (url, pool):
        _, secret = await keys.create(pool, "reader", ["read"])
        address = f"{url.replace('http', 'ws', 1)}/v1/ws"
        headers = {"X-API-Key": secret}
        found = await asyncio.gather(
            *(connect(address, additional_headers=headers) for _ in range(8)),
            return_exceptions=True,
        )
        opened = [one for one in found if isinstance(one, ClientConnection)]
        assert len(opened) == 2
        for one in opened:
            await one.close()
        await eventually(lambda: connected(url, 0, headers))

        async def streamed() -> int:
            query = {"after": 0}
            async with client.stream("GET", "/v1/stream", params=query, headers=headers) as answer:
                if answer.is_success:
                    holding.release()
                    await let_go.wait()
            return answer.status_code

        holding, let_go = asyncio.Semaphore(0), asyncio.Event()
        async with httpx.AsyncClient(base_url=url, timeout=SOON) as client:
            asking = [asyncio.create_task(streamed()) for _ in range(8)]
            await holding.acquire()
            await holding.acquire()
            await eventually(lambda: sum(one.done() for one in asking) == 6)
            let_go.set()
            statuses = await asyncio.gather(*asking)
        assert sorted(statuses) == [200] * 2 + [503] * 6
        await eventually(lambda: connected(url, 0, headers))


@pytest.mark.skipif(sys.platform != "linux", reason="needs TCP_USER_TIMEOUT")
async def test_who_never_reads_loses_its_place(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.serving.UNREAD_SECONDS", 3.0)
    filling = {"text": "x" * 20_000}
    await record(database, *(ARun().started(metadata=filling) for _ in range(40)))
    with listening(api_settings(database)) as url, socketlib.socket() as peer:
        peer.setsockopt(socketlib.SOL_SOCKET, socketlib.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        peer.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: test\r\n\r\n")
        await eventually(lambda: connected(url, 1))
        await eventually(lambda: connected(url, 0))


async def connected(url: str, connections: int, headers: dict[str, str] | None = None) -> bool:
    async with httpx.AsyncClient(headers=headers) as client:
        metrics = (await client.get(f"{url}/metrics")).text
    return f"flowtrail_live_connections {float(connections)}\n" in metrics


async def test_silence_is_filled(served_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.live.socket.HEARTBEAT", 0.1)
    async with socket(served_api) as opened:
        await ask(opened, type="subscribe", id="all")
        while (first := await frame(opened))["type"] == "heartbeat":
            pass  # The snapshot may take that long.
        assert first["type"] == "snapshot"
        assert await frame(opened) == {"type": "heartbeat", "seq": 0}
