"""Its socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from api.flowflare.updates import Updates
from api.settings import ApiSettings
from tests.api.conftest import api_settings
from tests.api.flowflare.calls import start, track_step
from tests.api.over_http import listening
from tests.api.recorded import payload, record
from tests.factories import ARun
from tests.feed.feeding import feeding, watching
from tests.feed.test_feed import attempts_of
from tracker.core.fold import fold
from tracker.core.ids import Ref
from tracker.errors import DatabaseUnavailable
from tracker.store.database import Database, dedicated
from tracker.store.record import write_batch
from tracker.store.run_trees import run_with_values


@pytest.fixture
def served_api(settings: ApiSettings) -> Iterator[str]:
    with listening(settings) as url:
        yield url


async def frame(opened: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        return json.loads(await opened.recv())


async def test_the_socket(served_api: str, database: str) -> None:
    run = ARun(ref=Ref("order", "o-9"))
    url = f"{served_api.replace('http', 'ws', 1)}/api/tracker-websocket"
    async with httpx.AsyncClient(base_url=served_api) as client, connect(url) as opened:
        assert await frame(opened) == {"type": "initial_data", "data": []}
        run_id = await start(client, ref_id="c", ref_type="campaign")
        told = await frame(opened)
        assert (told["type"], told["data"]["type"]) == ("update", "run_update")
        shown = told["data"]["run_update"]
        assert (shown["id"], shown["status"], shown["ref_id"]) == (run_id, "Pending", "c")
        body = {"type": "run_update", "run_update": {"id": run_id, "status": "Running"}}
        await client.post("/api/workflows/update", json=body)
        assert await frame(opened) == {"type": "update", "data": body}
        await track_step(client, run_id, "send", 1)
        assert (await frame(opened))["data"]["step_update"]["status"] == "Running"
        assert (await frame(opened))["data"]["step_update"]["state"] == '{"sent":1}'
        await record(database, run.started(), attempts_of(run)[0])
        synthesised = [(await frame(opened))["data"] for _ in range(2)]
        assert synthesised[0]["run_update"]["status"] == "Running"
        assert synthesised[0]["run_update"]["id"] == str(run.identity.id)
        step = synthesised[1]["step_update"]
        assert (step["step_name"], step["status"]) == ("charge", "Running")
        assert step["workflow_run_id"] == str(run.identity.id)
        await record(database, run.closed(output=payload({"x": 1})))
        assert (await frame(opened))["data"]["run_update"]["output_result"] == '{"x":1}'
        await opened.send(json.dumps({"type": "query", "params": {"ref_id": "c"}}))
        found = await frame(opened)
        assert found["type"] == "query_result"
        assert [one["id"] for one in found["data"]] == [run_id]
        assert found["data"][0]["steps"][0]["step_name"] == "send"
        await opened.send("{")
        assert (await frame(opened))["type"] == "error"
        await opened.send(json.dumps({"type": "query", "params": {"status": "Done"}}))
        assert "expected status" in (await frame(opened))["error"]
    async with connect(url) as opened:
        assert len((await frame(opened))["data"]) == 2
    async with httpx.AsyncClient(base_url=served_api) as client:
        assert (await client.get("/api/tracker-websocket")).status_code == 426


async def test_the_socket_with_a_key_in_its_path(
    database: str, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with listening(api_settings(database, auth="on")) as url:
        base = url.replace("http", "ws", 1)
        with pytest.raises(InvalidStatus) as denied:
            async with connect(f"{base}/api/tracker-websocket"):
                pass
        assert denied.value.response.status_code == 401
        body = json.loads(denied.value.response.body)
        assert body == {"success": False, "error": "Unauthorized"}
        async with connect(f"{base}/k/{secret}/api/tracker-websocket") as opened:
            assert (await frame(opened))["type"] == "initial_data"
    told = [record.getMessage() for record in caplog.records]
    assert "WebSocket /flowflare/api/tracker-websocket ended" in told
    assert not any(secret in line for line in told)


async def test_a_change_is_rendered_once_for_all_sockets(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And again only where that failed."""
    run = ARun()
    async with feeding(store) as feed:
        watcher = await watching(feed)
        async with dedicated(store.options) as connection:
            await write_batch(connection, "flowtrail", fold([run.started()]))
        [entry] = await watcher.until(1)
    asked: list[UUID] = []

    async def counted(database: Database, namespace: str, run_id: UUID) -> Any:
        asked.append(run_id)
        if len(asked) == 1:
            raise DatabaseUnavailable("the pool is exhausted")
        return await run_with_values(database, namespace, run_id)

    monkeypatch.setattr("api.flowflare.updates.run_with_values", counted)
    updates = Updates(store, "default")
    failed = await asyncio.gather(*(updates.frame(entry) for _ in range(9)), return_exceptions=True)
    assert {type(one) for one in failed} == {DatabaseUnavailable}
    frames = await asyncio.gather(*(updates.frame(entry) for _ in range(9)))
    assert len(set(frames)) == 1
    assert asked == [run.identity.id] * 2
