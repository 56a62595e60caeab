"""Its routes to start and read runs, its keys and its CORS."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

import httpx
import pytest

from api.main import create_app
from tests.api.conftest import api_settings, served
from tests.api.flowflare.calls import call, refused, start, update, workflow
from tests.api.recorded import record
from tracker.core.events import WorkflowTypeSeen

RECIPIENTS = {"recipients": ["user@example.com"], "subject": "Hello", "body": "Test email"}


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
    patched = await flowflare.patch("/service/list-workflows", json={})
    assert (patched.status_code, patched.json()["success"]) == (404, False)
    plain = await flowflare.post("/api/tracker-websocket")
    assert (plain.status_code, plain.json()["success"]) == (426, False)
    unknown = await flowflare.post("/service/anything", json={})
    assert unknown.status_code == 404
    assert unknown.json() == {"success": False, "error": "Unknown service endpoint"}
    prefixes = (f"/k/{secret}", f"/behind/a/proxy/k/{secret}", f"/flowflare/k/{secret}")
    for path in (*prefixes, f"/k/{secret}/"):
        answer = await flowflare.post(
            f"{path}/service/list-workflows", json={}, headers={"X-API-Key": ""}
        )
        assert answer.status_code == 200


async def test_a_key_in_a_path_stays_out_of_the_log(
    flowflare: httpx.AsyncClient, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        for path in ("service/list-workflows", "/service/list-workflows/", "api/workflows", "typo"):
            await flowflare.post(f"/k/{secret}/{path}", json={})
    ours = [record for record in caplog.records if record.name.startswith("api")]
    assert ours
    assert all(secret not in f"{record.getMessage()}{record.__dict__}" for record in ours)


async def test_networks_without_a_key(database: str, secret: str) -> None:
    open_to = (ip_network("127.0.0.0/8"),)
    settings = api_settings(database, auth="on", flowflare_open_networks=open_to)
    async with served(create_app(settings)) as client:
        await call(client, "/api/workflows/query")
        assert (await client.post("/service/list-workflows", json={})).status_code == 401
        for elsewhere in ({"X-Forwarded-For": "203.0.113.7"}, {"Origin": "https://evil.example"}):
            answer = await client.post("/api/workflows/query", json={}, headers=elsewhere)
            assert answer.status_code == 401
        ours = {"Origin": str(client.base_url).rstrip("/")}
        answer = await client.post("/api/workflows/query", json={}, headers=ours)
        assert answer.status_code == 200


async def test_pages_of_others_where_no_key_is_asked_for(database: str) -> None:
    """Every page that a developer opens could read their runs, and start some."""
    async with served(create_app(api_settings(database))) as client:
        foreign = {"Origin": "https://evil.example"}
        answer = await client.post("/api/workflows/query", json={}, headers=foreign)
        assert answer.status_code == 403
        assert "FLOWTRAIL_ALLOWED_ORIGINS" in answer.json()["error"]
        for odd in ("http://[", "null", "https://"):
            answer = await client.post("/api/workflows/query", json={}, headers={"Origin": odd})
            assert answer.status_code == 403


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
