"""Programs written for Flowflare work against this API: its routes, its socket, its helper."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from api.main import create_app
from api.settings import ApiSettings
from tests.api.conftest import api_settings, served
from tests.api.over_http import listening
from tests.api.recorded import payload, record
from tests.factories import ARun
from tests.feed.test_feed import attempts_of
from tracker.core.events import WorkflowTypeSeen
from tracker.core.ids import Ref
from tracker.core.status import RunStatus
from tracker.store import keys
from tracker.store.database import Database

RECIPIENTS = {"recipients": ["user@example.com"], "subject": "Hello", "body": "Test email"}


@pytest.fixture
async def secret(store: Database) -> str:
    _, secret = await keys.create(store, "flowflare", ["read", "start"])
    return secret


@pytest.fixture
async def flowflare(database: str, secret: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key, as `WorkflowClient` sends it."""
    async with served(create_app(api_settings(database, auth="on"))) as client:
        client.headers["X-API-Key"] = secret
        yield client


async def call(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def start(client: httpx.AsyncClient, name: str = "nightly", **given: Any) -> str:
    answer = await call(client, "/service/start-workflow", workflowType=name, **given)
    assert answer["success"] is True
    return answer["workflowId"]


async def workflow(client: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    return (await call(client, "/service/get-workflow", workflowId=run_id))["workflow"]


async def update(client: httpx.AsyncClient, kind: str, **fields: Any) -> dict[str, Any]:
    return await call(client, "/api/workflows/update", type=kind, **{kind: fields})


async def refused(client: httpx.AsyncClient, path: str, body: Any) -> tuple[int, str]:
    answer = await client.post(path, json=body)
    told = answer.json()
    assert told["success"] is False
    return answer.status_code, told["error"]


async def test_an_unknown_type_becomes_an_external_run(flowflare: httpx.AsyncClient) -> None:
    answer = await call(
        flowflare,
        "/service/start-workflow",
        workflowType="nightly",
        params={"day": 1},
        ref_id="campaign-123",
        ref_type="campaign",
        metadata={"triggeredBy": "user@example.com"},
    )
    assert answer == {
        "success": True,
        "workflowId": answer["workflowId"],
        "ref_id": "campaign-123",
        "ref_type": "campaign",
    }
    run = await workflow(flowflare, answer["workflowId"])
    assert run["status"] == "Pending"
    assert run["input_params"] == '{"day":1}'
    assert run["metadata"] == '{"triggeredBy":"user@example.com"}'
    assert run["steps"] == []
    assert run["output_result"] is None
    assert run["completed_at"] is None
    assert isinstance(run["workflow_id"], int)
    assert run["created_at"].endswith("Z")
    assert set(run) == {
        "id",
        "workflow_id",
        "status",
        "ref_id",
        "ref_type",
        "input_params",
        "output_result",
        "metadata",
        "created_at",
        "updated_at",
        "completed_at",
        "sleep_until",
        "steps",
    }
    native = (await flowflare.get(f"/v1/runs/{answer['workflowId']}")).json()
    assert (native["engine"], native["status"]) == ("external", "accepted")
    assert native["input"]["value"] == [{"day": 1}]


async def test_params_default_to_an_empty_object(flowflare: httpx.AsyncClient) -> None:
    run = await workflow(flowflare, await start(flowflare))
    assert run["input_params"] == "{}"
    assert (run["ref_id"], run["ref_type"]) == (None, None)


async def test_a_type_that_a_worker_knows_is_started_on_temporal(
    flowflare: httpx.AsyncClient, database: str
) -> None:
    seen = WorkflowTypeSeen(
        namespace="default", name="EmailCampaign", task_queue="q", aliases=("email_campaign",)
    )
    await record(database, seen)
    run_id = await start(flowflare, "email_campaign", params=RECIPIENTS, ref_id="c", ref_type="x")
    native = (await flowflare.get(f"/v1/runs/{run_id}")).json()
    assert (native["engine"], native["workflow_type"]) == ("temporal", "EmailCampaign")
    assert native["input"]["value"] == [RECIPIENTS]
    assert (await workflow(flowflare, run_id))["status"] == "Pending"
    status, error = await refused(
        flowflare,
        "/api/workflows/update",
        {"type": "run_update", "run_update": {"id": run_id, "status": "Completed"}},
    )
    assert status == 409
    assert "driven by Temporal" in error


async def test_the_ref_among_the_params(database: str, secret: str) -> None:
    settings = api_settings(database, auth="on", flowflare_ref_in_params=("nightly",))
    async with served(create_app(settings)) as client:
        client.headers["X-API-Key"] = secret
        run_id = await start(client, params={"a": 1}, ref_id="r", ref_type="t")
        params = json.loads((await workflow(client, run_id))["input_params"])
        assert params == {"ref_id": "r", "ref_type": "t", "a": 1}


async def test_unknown_types_may_be_refused(database: str, secret: str) -> None:
    settings = api_settings(database, auth="on", flowflare_unknown_types="reject")
    async with served(create_app(settings)) as client:
        client.headers["X-API-Key"] = secret
        status, error = await refused(client, "/service/start-workflow", {"workflowType": "x"})
        assert (status, "no worker has registered" in error) == (404, True)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"workflowType": ""},
        {"workflowType": 1},
        {"workflowType": "x", "params": [1]},
        {"workflowType": "x", "params": "text"},
        {"workflowType": "x", "metadata": "text"},
        {"workflowType": "x", "unknown": 1},
        {"workflowType": "x", "ref_type": "a/b", "ref_id": "1"},
        [],
        "text",
    ],
    ids=str,
)
async def test_bad_input_leaves_nothing_behind(flowflare: httpx.AsyncClient, body: Any) -> None:
    status, _ = await refused(flowflare, "/service/start-workflow", body)
    assert status == 400
    assert (await call(flowflare, "/service/list-workflows"))["workflows"] == []


async def test_a_body_that_is_no_json(flowflare: httpx.AsyncClient) -> None:
    answer = await flowflare.post("/service/start-workflow", content=b"{")
    assert answer.status_code == 400
    assert answer.json()["success"] is False


async def test_an_unknown_id_is_null(flowflare: httpx.AsyncClient) -> None:
    for run_id in ("01935f00-0000-7000-8000-000000000001", "no such thing"):
        answer = await call(flowflare, "/service/get-workflow", workflowId=run_id)
        assert answer == {"success": True, "workflow": None}


async def test_lists(flowflare: httpx.AsyncClient) -> None:
    ids = [await start(flowflare, ref_id=f"r{n % 2}", ref_type="t") for n in range(5)]
    await update(flowflare, "run_update", id=ids[0], status="Running")
    await update(flowflare, "run_update", id=ids[1], status="Sleeping", sleep_until="2099-01-01")
    await update(flowflare, "run_update", id=ids[2], status="Errored")

    async def listed(**asked: Any) -> list[str]:
        answer = await call(flowflare, "/service/list-workflows", **asked)
        return [run["id"] for run in answer["workflows"]]

    assert await listed() == ids[::-1]
    assert await listed(limit=2, offset=1) == [ids[3], ids[2]]
    assert await listed(status="Running") == [ids[0]]
    assert await listed(status="Sleeping") == [ids[1]]
    assert await listed(status="Errored") == [ids[2]]
    assert await listed(status="Pending") == [ids[4], ids[3]]
    assert await listed(status="Completed") == []

    async def of_ref(**asked: Any) -> list[str]:
        answer = await call(flowflare, "/service/get-workflows-by-ref", **asked)
        return [run["id"] for run in answer["workflows"]]

    assert await of_ref(ref_id="r1", ref_type="t") == [ids[3], ids[1]]
    assert await of_ref(ref_id="r1") == [ids[3], ids[1]]
    assert await of_ref(ref_type="t", limit=3) == ids[:1:-1]
    assert await of_ref(ref_id="r1", status="Pending") == [ids[3]]
    assert await of_ref(ref_type="t", status="Sleeping") == [ids[1]]
    assert await of_ref(ref_type="other") == []
    queried = await call(flowflare, "/api/workflows/query", ref_id="r1", limit=1)
    assert queried["type"] == "query_result"
    assert [run["id"] for run in queried["data"]] == [ids[3]]
    one = await call(flowflare, "/api/workflows/query", workflowId=ids[0], ref_id="r1")
    assert [run["id"] for run in one["data"]] == [ids[0]]


async def test_half_a_ref(flowflare: httpx.AsyncClient) -> None:
    only_id = await start(flowflare, ref_id="lonely")
    only_type = await start(flowflare, ref_type="kind")
    assert (await workflow(flowflare, only_id))["ref_type"] is None
    assert (await workflow(flowflare, only_type))["ref_id"] is None
    found = await call(flowflare, "/service/get-workflows-by-ref", ref_id="lonely")
    assert [run["id"] for run in found["workflows"]] == [only_id]
    found = await call(flowflare, "/service/get-workflows-by-ref", ref_type="kind")
    assert [run["id"] for run in found["workflows"]] == [only_type]


async def test_by_ref_needs_a_ref(flowflare: httpx.AsyncClient) -> None:
    answer = await flowflare.post("/service/get-workflows-by-ref", json={})
    assert answer.status_code == 400
    assert answer.json() == {
        "success": False,
        "error": "Either ref_id or ref_type must be provided",
    }


async def test_keys(flowflare: httpx.AsyncClient, secret: str) -> None:
    unauthorized = {"success": False, "error": "Unauthorized"}
    paths = ("/service/list-workflows", "/service/anything", "/api/workflows/update")
    for wrong in ("", "ft_wrong"):
        for path in paths:
            answer = await flowflare.post(path, content=b"{", headers={"X-API-Key": wrong})
            assert (answer.status_code, answer.json()) == (401, unauthorized)
    unknown = await flowflare.post("/service/anything", json={})
    assert unknown.status_code == 404
    assert unknown.json() == {"success": False, "error": "Unknown service endpoint"}
    for path in (f"/k/{secret}", f"/behind/a/proxy/k/{secret}", f"/flowflare/k/{secret}"):
        answer = await flowflare.post(
            f"{path}/service/list-workflows", json={}, headers={"X-API-Key": ""}
        )
        assert answer.status_code == 200


async def test_a_key_in_a_path_stays_out_of_the_log(
    flowflare: httpx.AsyncClient, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        await flowflare.post(f"/k/{secret}/service/list-workflows", json={})
    ours = [record for record in caplog.records if record.name.startswith("api")]
    assert ours
    assert all(secret not in f"{record.getMessage()}{record.__dict__}" for record in ours)


async def test_networks_without_a_key(database: str, secret: str) -> None:
    open_to = (ip_network("127.0.0.0/8"),)
    settings = api_settings(database, auth="on", flowflare_open_networks=open_to)
    async with served(create_app(settings)) as client:
        await call(client, "/api/workflows/query")
        assert (await client.post("/service/list-workflows", json={})).status_code == 401


@pytest.mark.parametrize(
    ("configured", "origin", "told"),
    [
        ((), "https://any.example", "https://any.example"),
        ((), None, "*"),
        (("https://a.example", "https://b.example"), "https://b.example", "https://b.example"),
        (("https://a.example", "https://b.example"), "https://evil.example", "https://a.example"),
        (("https://a.example",), None, "https://a.example"),
    ],
)
async def test_cors(
    database: str, secret: str, configured: tuple[str, ...], origin: str | None, told: str
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    settings = api_settings(database, auth="on", allowed_origins=configured)
    async with served(create_app(settings)) as client:
        for path in ("/service/start-workflow", "/api/workflows/query", "/k/x/service/y"):
            answer = await client.options(path, headers=headers)
            assert answer.status_code == 204
            assert answer.headers["Access-Control-Allow-Origin"] == told
            allowed = answer.headers["Access-Control-Allow-Methods"]
            assert allowed == "GET, POST, PUT, DELETE, OPTIONS"
            names = answer.headers["Access-Control-Allow-Headers"]
            assert names == "Content-Type, Authorization, X-API-Key"
            assert answer.headers["Access-Control-Max-Age"] == "86400"
        answer = await client.post("/api/workflows/query", json={}, headers=headers)
        assert answer.headers.get_list("Access-Control-Allow-Origin") == [told]


async def test_a_run_as_its_owner_reports_it(flowflare: httpx.AsyncClient) -> None:
    run_id = await start(flowflare, ref_id="c", ref_type="campaign", params={"a": 1})
    number = (await workflow(flowflare, run_id))["workflow_id"]
    answer = await update(flowflare, "run_update", id=run_id, workflow_id=1, status="Running")
    assert answer == {"success": True, "result": {"updated": True, "id": run_id}}
    await update(
        flowflare, "run_update", id=run_id, status="Sleeping", sleep_until="2099-01-01T00:00:00Z"
    )
    run = await workflow(flowflare, run_id)
    assert (run["status"], run["sleep_until"]) == ("Sleeping", "2099-01-01T00:00:00.000Z")
    await update(flowflare, "run_update", id=run_id, status="Running", input_params='{"a":2}')
    run = await workflow(flowflare, run_id)
    assert (run["status"], run["sleep_until"]) == ("Running", None)
    assert run["input_params"] == '{"a":1}'  # Never changes.
    result = '{ "success": true,  "z": 1, "a": 2 }'
    await update(flowflare, "run_update", id=run_id, status="Completed", output_result=result)
    run = await workflow(flowflare, run_id)
    assert (run["status"], run["output_result"]) == ("Completed", result)
    assert run["completed_at"] is not None
    assert run["workflow_id"] == number
    native = (await flowflare.get(f"/v1/runs/{run_id}")).json()
    assert native["output"]["value"] == {"success": True, "z": 1, "a": 2}
    late = {"type": "run_update", "run_update": {"id": run_id, "status": "Errored"}}
    assert (await refused(flowflare, "/api/workflows/update", late))[0] == 409
    await update(flowflare, "run_update", id=run_id, status="Running")
    run = await workflow(flowflare, run_id)
    assert (run["status"], run["completed_at"], run["output_result"]) == ("Running", None, None)
    failure = '{"success":false,"error":"boom"}'
    await update(flowflare, "run_update", id=run_id, status="Errored", output_result=failure)
    run = await workflow(flowflare, run_id)
    assert (run["status"], run["output_result"]) == ("Errored", failure)
    native = (await flowflare.get(f"/v1/runs/{run_id}")).json()
    assert native["error"]["message"] == "boom"


async def test_a_reopened_run_leaves_its_verdict_in_the_audit(
    flowflare: httpx.AsyncClient, store: Database
) -> None:
    run_id = await start(flowflare)
    await update(flowflare, "run_update", id=run_id, status="Errored")
    await update(flowflare, "run_update", id=run_id, status="Running")
    async with store.connection() as connection:
        cursor = await connection.execute("SELECT actor, action, details FROM flowtrail.audit")
        [entry] = await cursor.fetchall()
    assert (entry["actor"], entry["action"]) == ("flowflare", "reopen")
    assert entry["details"]["status"] == "failed"


async def test_a_run_under_its_owners_id(flowflare: httpx.AsyncClient) -> None:
    known = await start(flowflare, ref_id="c", ref_type="campaign")
    number = (await workflow(flowflare, known))["workflow_id"]
    report = {"id": "instance-7", "status": "Running", "input_params": '{"b":1}'}
    status, error = await refused(
        flowflare, "/api/workflows/update", {"type": "run_update", "run_update": report}
    )
    assert (status, "workflow_id None" in error) == (400, True)
    for wrong in (12345, -1, 2**60):
        body = {"type": "run_update", "run_update": report | {"workflow_id": wrong}}
        status, error = await refused(flowflare, "/api/workflows/update", body)
        assert (status, f"workflow_id {wrong}" in error) == (400, True)
    answer = await update(flowflare, "run_update", workflow_id=number, **report)
    assert answer["result"] == {"inserted": True, "id": "instance-7"}
    run = await workflow(flowflare, "instance-7")
    assert (run["id"], run["status"], run["input_params"]) == ("instance-7", "Running", '{"b":1}')
    assert (run["ref_id"], run["workflow_id"]) == ("c", number)
    workflows = (await flowflare.get("/v1/refs/campaign/c")).json()["workflows"]
    assert [one["runs_count"] for one in workflows] == [2]


async def track_step(
    client: httpx.AsyncClient, run_id: str, name: str, index: int, fails: int = 0
) -> None:
    """What the published helper sends, call by call."""

    async def step(**fields: Any) -> None:
        fields |= {"workflow_run_id": run_id, "step_name": name, "step_index": index}
        assert (await update(client, "step_update", **fields))["success"] is True

    for attempt in range(1, fails + 1):
        await step(status="Running", state=None, started_at=f"2026-03-01T12:00:0{attempt}.000Z")
        retry_at = f"2026-03-01T12:00:0{attempt}.500Z"
        retry = {"count": attempt, "maxRetries": 3, "nextRetryAt": retry_at}
        state = json.dumps({"error": f"boom {attempt}", "retry": retry}, separators=(",", ":"))
        await step(status="Retrying", state=state)
        answer = await update(
            client,
            "retry_update",
            workflow_step_id=index,
            retry_count=attempt,
            retry_at=retry_at,
            last_error=f"boom {attempt}",
        )
        assert answer["result"]["inserted"] is True
    await step(status="Running", state=None, started_at="2026-03-01T12:00:09.000Z")
    await step(status="Completed", state='{"sent":1}', completed_at="2026-03-01T12:00:10.000Z")


async def test_the_helper_tracks_steps(flowflare: httpx.AsyncClient) -> None:
    run_id = await start(flowflare)
    await update(flowflare, "run_update", id=run_id, status="Running")
    await track_step(flowflare, run_id, "validate", 1)
    await track_step(flowflare, run_id, "send", 2, fails=2)
    first, second = (await workflow(flowflare, run_id))["steps"]
    assert (first["step_name"], first["step_index"], first["status"]) == (
        "validate",
        1,
        "Completed",
    )
    assert (first["state"], first["retries"]) == ('{"sent":1}', [])
    assert first["started_at"] == "2026-03-01T12:00:09.000Z"
    assert first["completed_at"] == "2026-03-01T12:00:10.000Z"
    assert [(r["retry_count"], r["last_error"]) for r in second["retries"]] == [
        (1, "boom 1"),
        (2, "boom 2"),
    ]
    assert second["retries"][0]["retry_at"] == "2026-03-01T12:00:01.500Z"
    assert second["started_at"] == "2026-03-01T12:00:01.000Z"
    steps = (await flowflare.get(f"/v1/runs/{run_id}")).json()["steps"]
    native = next(step for step in steps if step["name"] == "send")
    outcomes = [attempt["outcome"] for attempt in native["attempts"]]
    assert outcomes == ["failed", "failed", "completed"]
    assert native["max_attempts"] == 4


async def test_a_step_on_its_way(flowflare: httpx.AsyncClient) -> None:
    run_id = await start(flowflare)
    named = {"workflow_instance_id": run_id, "step_name": "s", "step_index": 0}

    async def shown() -> tuple[str, str | None]:
        [step] = (await workflow(flowflare, run_id))["steps"]
        return step["status"], step["state"]

    answer = await update(flowflare, "step_update", status="Pending", **named)
    assert answer["result"]["inserted"] is True
    assert await shown() == ("Pending", None)
    await update(flowflare, "step_update", status="Running", **named)
    await update(flowflare, "step_update", status="Running", **named)
    assert await shown() == ("Running", None)
    state = '{ "error": "no",  "retry": {"count": 1, "maxRetries": 3} }'
    await update(flowflare, "step_update", status="Retrying", state=state, **named)
    assert await shown() == ("Retrying", state)
    await update(flowflare, "step_update", status="Running", **named)
    assert await shown() == ("Running", None)
    await update(flowflare, "step_update", status="Failed", state='{"error":"no"}', **named)
    assert await shown() == ("Failed", '{"error":"no"}')
    [step] = (await workflow(flowflare, run_id))["steps"]
    assert [retry["retry_count"] for retry in step["retries"]] == [1]
    await update(flowflare, "step_update", status="Running", **named)
    await update(flowflare, "step_update", status="Completed", state="done", **named)
    assert await shown() == ("Completed", "done")
    native = (await flowflare.get(f"/v1/runs/{run_id}")).json()["steps"][0]
    assert native["attempts_count"] == 3


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"type": "shout"}, 400, "Unknown update type: shout"),
        ({}, 400, "Unknown update type: None"),
        ({"type": "run_update"}, 400, "run_update is missing"),
        ({"type": "run_update", "run_update": {"status": "Running"}}, 400, "id"),
        ({"type": "run_update", "run_update": {"id": "x", "status": "Done"}}, 400, "status"),
        ({"type": "run_update", "run_update": {"id": "x", "name = 1; --": 1}}, 400, "name = 1; --"),
        (
            {
                "type": "step_update",
                "step_update": {
                    "workflow_run_id": "unknown",
                    "step_name": "s",
                    "step_index": 1,
                    "status": "Running",
                },
            },
            404,
            "report the run before its steps",
        ),
        ({"type": "step_update", "step_update": {"step_name": "s"}}, 400, "workflow_run_id"),
        ({"type": "retry_update", "retry_update": {"surprise": 1}}, 400, "retry_count"),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_updates_that_are_refused(
    flowflare: httpx.AsyncClient, body: Any, status: int, message: str
) -> None:
    got, error = await refused(flowflare, "/api/workflows/update", body)
    assert got == status
    assert message in error or status == 400


async def test_a_hundred_starts_at_once_are_counted(flowflare: httpx.AsyncClient) -> None:
    given = {"ref_id": "c", "ref_type": "campaign"}
    ids = await asyncio.gather(*(start(flowflare, **given) for _ in range(100)))
    assert len(set(ids)) == 100
    [counted] = (await flowflare.get("/v1/refs/campaign/c")).json()["workflows"]
    assert counted["runs_count"] == 100
    # A late report of an older run is not the workflow's status.
    await update(flowflare, "run_update", id=ids[0], status="Errored")
    [counted] = (await flowflare.get("/v1/refs/campaign/c")).json()["workflows"]
    oldest_is_latest = counted["latest_run_id"] == ids[0]
    assert counted["latest_status"] == ("failed" if oldest_is_latest else "accepted")


async def test_what_temporal_drives_looks_alike(
    flowflare: httpx.AsyncClient, database: str
) -> None:
    run = ARun()
    started, ended = attempts_of(run)
    await record(database, run.started(input=payload([{"a": 1}])), started)
    [shown] = (await call(flowflare, "/service/list-workflows"))["workflows"]
    assert (shown["status"], shown["input_params"]) == ("Running", '{"a":1}')
    [step] = shown["steps"]
    assert (step["status"], step["state"], step["step_index"]) == ("Running", None, 1)
    await record(database, ended, run.closed(RunStatus.COMPLETED, output=payload({"sent": 1})))
    [shown] = (await call(flowflare, "/service/list-workflows"))["workflows"]
    assert (shown["status"], shown["output_result"]) == ("Completed", '{"sent":1}')
    assert shown["completed_at"] == "2026-03-01T12:00:09.000Z"
    assert shown["steps"][0]["status"] == "Completed"


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
        async with connect(f"{base}/k/{secret}/api/tracker-websocket") as opened:
            assert (await frame(opened))["type"] == "initial_data"
    told = [record.getMessage() for record in caplog.records]
    assert "WebSocket /flowflare/api/tracker-websocket ended" in told
    assert not any(secret in line for line in told)
