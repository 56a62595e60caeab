"""Acting on runs over HTTP, with a real Temporal and a real worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.worker import Worker

from api.main import create_app
from tests.api.conftest import api_settings, served
from tests.api.held_workflow import Held
from tests.proxy import TcpProxy
from tests.waiting import eventually
from tracker.core.ids import new_id
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.store import keys
from tracker.store.audit import actions_of_run
from tracker.store.database import Database, DatabaseOptions

HELD = {"workflow_type": "Held", "task_queue": "held"}


@pytest.fixture
async def api(
    database: str,
    temporal_client: Client,
    temporal_server: EmbeddedTemporal,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[httpx.AsyncClient]:
    """The API with auth on, and a worker; the client shows the key of `ops`."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", temporal_client.namespace)
    async with (
        Worker(temporal_client, task_queue="held", workflows=[Held]),
        Database(DatabaseOptions(database)) as pool,
        served(create_app(api_settings(database, auth="on"))) as client,
    ):
        _, secret = await keys.create(pool, "ops", ["admin"])
        client.headers["X-API-Key"] = secret
        yield client


@pytest.fixture
async def run_id(api: httpx.AsyncClient) -> str:
    """A run that the worker holds."""
    answer = await api.post("/v1/runs", json=HELD)
    assert answer.status_code == 201, answer.text
    return answer.json()["run_id"]


async def act(api: httpx.AsyncClient, run_id: str, action: str, status: int, **body: Any) -> Any:
    answer = await api.post(f"/v1/runs/{run_id}/{action}", json=body or None)
    assert answer.status_code == status, answer.text
    return answer.json()


async def audited(database: str, run_id: Any) -> list[tuple[str, str, str | None, str]]:
    async with Database(DatabaseOptions(database)) as pool:
        entries = await actions_of_run(pool, run_id)
    return [(e["actor"], e["action"], e["reason"], e["outcome"]) for e in entries]


async def status_of(client: Client, api: httpx.AsyncClient, run_id: str) -> Any:
    run = (await api.get(f"/v1/runs/{run_id}")).json()
    handle = client.get_workflow_handle(run["workflow_id"], run_id=run["temporal_run_id"])
    return (await handle.describe()).status


async def test_cancel(
    api: httpx.AsyncClient, database: str, temporal_client: Client, run_id: str
) -> None:
    answer = await act(api, run_id, "cancel", 200, reason="asked by phone")
    assert answer == {
        "run_id": run_id,
        "action": "cancel",
        "accepted": True,
        "canceled_before_start": False,
    }

    async def canceled() -> bool:
        status = await status_of(temporal_client, api, run_id)
        return status is WorkflowExecutionStatus.CANCELED

    await eventually(canceled)
    assert await audited(database, run_id) == [("ops", "cancel", "asked by phone", "done")]
    error = await act(api, run_id, "signal", 409, name="note", args=["late"])
    assert error["error"] == "conflict"


async def test_terminate_without_a_body(
    api: httpx.AsyncClient, database: str, temporal_client: Client, run_id: str
) -> None:
    assert (await act(api, run_id, "terminate", 200))["action"] == "terminate"
    status = await status_of(temporal_client, api, run_id)
    assert status is WorkflowExecutionStatus.TERMINATED
    assert await audited(database, run_id) == [("ops", "terminate", None, "done")]


async def test_signal_and_query(api: httpx.AsyncClient, run_id: str) -> None:
    await act(api, run_id, "signal", 200, name="note", args=["one"])
    await act(api, run_id, "signal", 200, name="note", args=["two"])
    answer = await act(api, run_id, "query", 200, name="notes")
    assert (answer["done"], answer["result"]) == (True, ["one", "two"])


async def test_a_query_that_is_refused(api: httpx.AsyncClient, run_id: str) -> None:
    assert (await act(api, run_id, "query", 409, name="absent"))["error"] == "conflict"


async def test_a_result_that_json_cannot_carry(api: httpx.AsyncClient, run_id: str) -> None:
    assert (await act(api, run_id, "query", 200, name="odd"))["result"] == ["?", None]


async def test_update(api: httpx.AsyncClient, database: str, run_id: str) -> None:
    waiting = await act(
        api, run_id, "update", 200, name="release", args=[0.5], update_id="u-1", wait=0.05
    )
    assert (waiting["done"], waiting["update_id"]) == (False, "u-1")
    answer = await act(api, run_id, "update", 200, name="release", args=[0.5], update_id="u-1")
    assert (answer["done"], answer["result"]) == (True, "released")
    assert {entry[1] for entry in await audited(database, run_id)} == {"update"}


async def test_an_update_that_is_refused(
    api: httpx.AsyncClient, database: str, run_id: str
) -> None:
    error = await act(api, run_id, "update", 409, name="refuse", reason="trying")
    assert "Closed: not today" in error["message"]
    assert await audited(database, run_id) == [("ops", "update", "trying", "conflict")]


async def test_an_unknown_run(api: httpx.AsyncClient) -> None:
    for action in ("cancel", "terminate"):
        error = await act(api, str(new_id()), action, 404)
        assert error["error"] == "not_found"


async def test_temporal_away(
    database: str,
    namespace: str,
    temporal_client: Client,
    temporal_server: EmbeddedTemporal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with TcpProxy(temporal_server.port) as proxy:
        monkeypatch.setenv("TEMPORAL_ADDRESS", proxy.address)
        monkeypatch.setenv("TEMPORAL_NAMESPACE", namespace)
        async with served(create_app(api_settings(database, start_within=0.5))) as api:
            running = (await api.post("/v1/runs", json=HELD)).json()["run_id"]
            proxy.reset()
            error = await act(api, running, "signal", 503, name="note", args=["x"])
            assert error["class"] == "transient"
            accepted = (await api.post("/v1/runs", json=HELD)).json()
            assert accepted["status"] == "accepted"
            # Whether Temporal heard of it is unknown, so the cancel waits for who finds out.
            answer = await act(api, accepted["run_id"], "cancel", 200, reason="never mind")
            assert answer["accepted"]
            proxy.pass_on()

            async def canceled() -> bool:
                run = (await api.get(f"/v1/runs/{accepted['run_id']}")).json()
                return run["status"] == "canceled"

            await eventually(canceled, timeout=30)
    assert ("local", "cancel", "never mind", "done") in await audited(database, accepted["run_id"])


async def test_a_stop_ends_long_polls(database: str, temporal_server: EmbeddedTemporal) -> None:
    app = create_app(api_settings(database))
    async with served(app) as api:
        started = (await api.post("/v1/runs", json=HELD)).json()
        path = f"/v1/runs/{started['run_id']}/result"
        waiting = asyncio.create_task(api.get(f"{path}?wait=60"))
        assert not (await api.get(path)).json()["done"]
        app.state.stopping.set()
        assert not (await asyncio.wait_for(waiting, 5)).json()["done"]


async def test_queues_and_workers(api: httpx.AsyncClient, run_id: str) -> None:
    async def polled() -> Any:
        [queue] = (await api.get("/v1/queues")).json()["queues"]
        assert queue["task_queue"] == "held"
        assert queue["workflow"]["pollers"] == 1
        return queue

    queue = await eventually(polled)
    assert (queue["workflow"]["backlog"], queue["activity"]["pollers"]) == (0, 0)
    [worker] = (await api.get("/v1/workers")).json()["workers"]
    [poll] = worker["polls"]
    assert (poll["task_queue"], poll["kind"]) == ("held", "workflow")
    assert worker["seen_at"] == poll["seen_at"] is not None

    asked = await api.get("/v1/queues", params={"task_queue": ["nobody", "held", "nobody"]})
    assert [one["task_queue"] for one in asked.json()["queues"]] == ["held", "nobody"]


async def test_what_waits_in_a_queue_that_nobody_serves(api: httpx.AsyncClient) -> None:
    for _ in range(3):
        await api.post("/v1/runs", json=HELD | {"task_queue": "unserved"})

    async def counted() -> bool:
        answer = await api.get("/v1/queues", params={"task_queue": "unserved"})
        [queue] = answer.json()["queues"]
        assert queue["workflow"]["pollers"] == 0
        return queue["workflow"]["backlog"] == 3

    await eventually(counted)


async def test_the_audit(api: httpx.AsyncClient, run_id: str) -> None:
    for name in ("first", "second"):
        await act(api, run_id, "signal", 200, name=name)
    await act(api, run_id, "cancel", 200, reason="asked by phone")
    first = (await api.get("/v1/audit", params={"limit": 2, "actor": "ops"})).json()
    assert [(e["action"], e["outcome"]) for e in first["entries"]] == [
        ("cancel", "done"),
        ("signal", "done"),
    ]
    assert first["entries"][0]["reason"] == "asked by phone"
    assert first["entries"][0]["run_id"] == run_id
    rest = await api.get(
        "/v1/audit", params={"limit": 2, "actor": "ops", "cursor": first["next_cursor"]}
    )
    assert [e["action"] for e in rest.json()["entries"]] == ["signal"]
    assert "next_cursor" not in rest.json() or rest.json()["next_cursor"] is None

    for params, count in (
        ({"action": "signal"}, 2),
        ({"run_id": run_id}, 3),
        ({"run_id": str(new_id())}, 0),
        ({"outcome": "conflict"}, 0),
        ({"actor": "nobody"}, 0),
        ({"after": "2020-01-01T00:00:00Z"}, 3),
        ({"before": "2020-01-01T00:00:00Z"}, 0),
    ):
        found = (await api.get("/v1/audit", params=params)).json()["entries"]
        assert len(found) == count, params
    foreign = await api.get("/v1/audit", params={"cursor": first["next_cursor"]})
    assert foreign.status_code == 422
