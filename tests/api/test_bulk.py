"""Actions on many runs: counted, carried out by a real worker process, killed in the middle."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client

from api.main import create_app
from tests.api.conftest import api_settings, served
from tests.e2e.processes import program
from tests.waiting import eventually
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.store.database import Database, DatabaseOptions

# Nobody polls it: the runs stay open.
QUEUE = "nobody"


@pytest.fixture
def environment(
    database: str,
    temporal_client: Client,
    temporal_server: EmbeddedTemporal,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> dict[str, str]:
    """What the programs are told, the API in this process too."""
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "absent.toml"))
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", temporal_client.namespace)
    return {
        "FLOWTRAIL_DATABASE_URL": database,
        "FLOWTRAIL_SPILL_DIR": str(tmp_path / "spill"),
        "TEMPORAL_ADDRESS": temporal_server.address,
        "TEMPORAL_NAMESPACE": temporal_client.namespace,
    }


@pytest.fixture
async def api(environment: dict[str, str], database: str) -> AsyncIterator[httpx.AsyncClient]:
    async with served(create_app(api_settings(database))) as client:
        yield client


async def start_runs(api: httpx.AsyncClient, count: int, batch: str = "b-1") -> list[str]:
    run_ids: list[str] = []
    for number in range(count):
        body = {
            "workflow_type": "Untended",
            "task_queue": QUEUE,
            "input": number,
            "metadata": {"batch": batch},
        }
        answer = await api.post("/v1/runs", json=body)
        assert answer.status_code == 201, answer.text
        run_ids.append(answer.json()["run_id"])
    return run_ids


async def bulk(api: httpx.AsyncClient, status: int, **body: Any) -> dict[str, Any]:
    filled = {"filter": {"metadata": {"batch": ["b-1"]}}, "rate": 500} | body
    answer = await api.post("/v1/bulk", json=filled)
    assert answer.status_code == status, answer.text
    return answer.json()


async def over(api: httpx.AsyncClient, bulk_id: str, within: float = 40) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def ended() -> bool:
        found.update((await api.get(f"/v1/bulk/{bulk_id}")).json())
        return found["finished_at"] is not None

    await eventually(ended, within)
    return found


async def items(api: httpx.AsyncClient, bulk_id: str, **filters: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        params = {"limit": "40", **filters, **cursor}
        page = (await api.get(f"/v1/bulk/{bulk_id}/items", params=params)).json()
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_a_dry_run_counts_and_does_nothing(api: httpx.AsyncClient) -> None:
    run_ids = await start_runs(api, 3)
    preview = await bulk(api, 200, action="terminate", dry_run=True)
    assert preview["count"] == 3
    assert {run["run_id"] for run in preview["runs"]} == set(run_ids)
    too_many = await bulk(api, 200, action="terminate", dry_run=True, max_runs=2)
    assert (too_many["count"], too_many["exceeds_max_runs"]) == (3, True)
    assert (await api.get("/v1/bulk")).json()["bulks"] == []


async def test_what_is_refused(api: httpx.AsyncClient) -> None:
    await start_runs(api, 2)
    assert "at least one filter" in (await bulk(api, 422, action="cancel", filter={}))["message"]
    limited = await bulk(api, 422, action="cancel", filter={"limit": 5, "task_queue": QUEUE})
    assert "no limit" in limited["message"]
    assert (await bulk(api, 422, action="signal"))["error"] == "invalid_request"
    refused = await bulk(api, 409, action="cancel", max_runs=1)
    assert refused["error"] == "too_many_runs"
    await bulk(api, 422, action="dance")
    absent = await api.get("/v1/bulk/0198c0de-0000-7000-8000-000000000001")
    assert absent.status_code == 404


async def test_one_key_is_one_action(api: httpx.AsyncClient) -> None:
    await start_runs(api, 2)
    first = await bulk(api, 202, action="cancel", idempotency_key="k")
    second = await bulk(api, 202, action="cancel", idempotency_key="k")
    assert first["bulk_id"] == second["bulk_id"]
    other = await bulk(api, 409, action="terminate", idempotency_key="k")
    assert other["error"] == "idempotency_conflict"


@pytest.mark.timeout(120)
async def test_each_action_reaches_every_run(
    api: httpx.AsyncClient, environment: dict[str, str], tmp_path: Path, database: str
) -> None:
    run_ids = await start_runs(api, 5)
    await api.post(f"/v1/runs/{run_ids[0]}/terminate")
    async with program("worker", tmp_path / "worker", environment):
        signaled = await bulk(api, 202, action="signal", signal_name="go", reason="all of them")
        report = await over(api, signaled["bulk_id"])
        assert (report["status"], report["total"]) == ("completed", 5)
        assert (report["done"], report["failed"], report["pending"]) == (4, 1, 0)
        [failed] = await items(api, signaled["bulk_id"], status="failed")
        assert (failed["run_id"], failed["error_code"]) == (run_ids[0], "conflict")

        rerun = await over(api, (await bulk(api, 202, action="rerun"))["bulk_id"])
        assert (rerun["done"], rerun["failed"]) == (5, 0)

        # A run that no worker touched has no workflow task to go back to.
        reset = await over(api, (await bulk(api, 202, action="reset"))["bulk_id"])
        assert reset["failed"] == reset["total"] == 10

        ended = await over(api, (await bulk(api, 202, action="terminate"))["bulk_id"])
        assert (ended["done"], ended["failed"]) == (9, 1)
    listed = (await api.get("/v1/bulk")).json()["bulks"]
    assert [one["action"] for one in listed] == ["terminate", "reset", "rerun", "signal"]
    types = (await api.get("/v1/workflow-types")).json()["workflow_types"]
    assert "flowtrail.bulk" not in [one["name"] for one in types]
    async with Database(DatabaseOptions(database)) as pool, pool.connection() as connection:
        sql = (
            "SELECT action, details->>'bulk' AS bulk, reason FROM {schema}.audit WHERE run_id = %s"
        )
        rows = await (await connection.execute(pool.sql(sql), [run_ids[1]])).fetchall()
    noted = [row for row in rows if row["action"] == "signal"]
    assert [(row["bulk"], row["reason"]) for row in noted] == [(signaled["bulk_id"], "all of them")]


@pytest.mark.timeout(400)
async def test_a_bulk_whose_worker_is_killed_reruns_each_run_once(
    api: httpx.AsyncClient, environment: dict[str, str], tmp_path: Path, *, soaking: bool
) -> None:
    count = 1000 if soaking else 120
    run_ids = await start_runs(api, count)
    started = await bulk(api, 202, action="rerun", rate=60 if soaking else 30)
    bulk_id = started["bulk_id"]

    async def halfway() -> bool:
        return (await api.get(f"/v1/bulk/{bulk_id}")).json()["done"] >= count // 3

    async with program("worker", tmp_path / "first", environment) as first:
        await eventually(halfway, timeout=60)
        await first.kill()
    at_the_kill = (await api.get(f"/v1/bulk/{bulk_id}")).json()
    assert 0 < at_the_kill["pending"] < count
    async with program("worker", tmp_path / "second", environment):
        report = await over(api, bulk_id, within=120)

    assert report["status"] == "completed"
    assert (report["total"], report["done"], report["failed"]) == (count, count, 0)
    done = await items(api, bulk_id)
    assert {item["run_id"] for item in done} == set(run_ids)
    made = await runs_made(api)
    assert Counter(run["rerun_of"] for run in made) == Counter(run_ids)
    assert {item["new_run_id"] for item in done} == {run["run_id"] for run in made}


async def runs_made(api: httpx.AsyncClient) -> list[dict[str, Any]]:
    """Every run on record that repeats another."""
    found: list[dict[str, Any]] = []
    params: dict[str, str] = {"workflow_type": "Untended", "limit": "500"}
    while True:
        page = (await api.get("/v1/runs", params=params)).json()
        found += [run for run in page["runs"] if run["rerun_of"] is not None]
        if page["next_cursor"] is None:
            return found
        params["cursor"] = page["next_cursor"]


@pytest.mark.timeout(120)
async def test_a_canceled_bulk_leaves_the_rest_alone(
    api: httpx.AsyncClient, environment: dict[str, str], tmp_path: Path
) -> None:
    await start_runs(api, 10)
    started = await bulk(api, 202, action="terminate", rate=2)
    bulk_id = started["bulk_id"]

    async def begun() -> bool:
        return (await api.get(f"/v1/bulk/{bulk_id}")).json()["done"] >= 1

    async with program("worker", tmp_path / "worker", environment):
        await eventually(begun, timeout=30)
        await api.post(f"/v1/bulk/{bulk_id}/cancel", json={"reason": "wrong filter"})
        report = await over(api, bulk_id)
    assert report["status"] == "canceled"
    assert report["pending"] > 0
    again = await api.post(f"/v1/bulk/{bulk_id}/cancel")
    assert again.status_code == 409
