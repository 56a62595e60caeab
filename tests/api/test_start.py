"""Starting over HTTP, with a real Temporal, without one, and with one that comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from api.main import create_app
from tests.api.conftest import api_settings, served
from tests.api.recorded import record
from tests.proxy import TcpProxy
from tests.waiting import eventually
from tracker.core.events import WorkflowTypeSeen
from tracker.core.memo import MEMO_FIELD
from tracker.embedded.temporal import EmbeddedTemporal

ORDER = {
    "workflow_type": "OrderFulfilment",
    "task_queue": "orders",
    "input": {"order": 7},
    "ref_type": "order",
    "ref_id": "o-7",
    "metadata": {"tier": "gold"},
}


@pytest.fixture
async def api(
    database: str,
    namespace: str,
    temporal_server: EmbeddedTemporal,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[httpx.AsyncClient]:
    """The API on a Temporal namespace of its own, where no worker runs."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", namespace)
    async with served(create_app(api_settings(database))) as client:
        yield client


async def start(api: httpx.AsyncClient, status: int, **changes: Any) -> Any:
    answer = await api.post("/v1/runs", json=ORDER | changes)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_start(api: httpx.AsyncClient, temporal_client: Client) -> None:
    run = await start(api, 201)
    assert (run["status"], run["created"]) == ("running", True)
    assert (run["ref_type"], run["ref_id"]) == ("order", "o-7")
    assert run["workflow_id"] == f"OrderFulfilment/{run['run_id']}"
    assert run["metadata"] == {"tier": "gold"}
    handle = temporal_client.get_workflow_handle(run["workflow_id"], run_id=run["temporal_run_id"])
    description = await handle.describe()
    assert description.status is WorkflowExecutionStatus.RUNNING
    memo = (await description.memo())[MEMO_FIELD]
    assert (memo["id"], memo["ref_id"]) == (run["run_id"], "o-7")


async def test_a_query_right_after_a_start_includes_it(api: httpx.AsyncClient) -> None:
    for number in range(5):
        run = await start(api, 201)
        found = (await api.get("/v1/refs/order/o-7")).json()
        assert found["runs"][0]["run_id"] == run["run_id"]
        assert found["workflows"][0]["runs_count"] == number + 1
    by_tier = (await api.get("/v1/runs?metadata.tier=gold&ref_type=order")).json()
    assert len(by_tier["runs"]) == 5


class TestIdempotency:
    async def test_a_repetition_gives_the_same_run(self, api: httpx.AsyncClient) -> None:
        first = await start(api, 201, idempotency_key="k-1")
        again = await start(api, 200, idempotency_key="k-1")
        assert again["run_id"] == first["run_id"]
        assert (first["created"], again["created"]) == (True, False)

    async def test_the_key_may_come_as_a_header(self, api: httpx.AsyncClient) -> None:
        first = await start(api, 201, idempotency_key="k-1")
        headers = {"Idempotency-Key": "k-1"}
        again = await api.post("/v1/runs", json=ORDER, headers=headers)
        assert (again.status_code, again.json()["run_id"]) == (200, first["run_id"])
        other = ORDER | {"idempotency_key": "k-2"}
        differing = await api.post("/v1/runs", json=other, headers=headers)
        assert differing.status_code == 422
        assert differing.json()["details"]["field"] == "idempotency_key"

    async def test_another_request_with_the_key_is_refused(self, api: httpx.AsyncClient) -> None:
        await start(api, 201, idempotency_key="k-1")
        error = await start(api, 409, idempotency_key="k-1", input={"order": 8})
        assert error["error"] == "idempotency_conflict"

    async def test_a_hundred_at_once(self, api: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(
            *(api.post("/v1/runs", json=ORDER | {"idempotency_key": "k-1"}) for _ in range(100))
        )
        assert {answer.status_code for answer in answers} <= {200, 201}
        assert [answer.status_code for answer in answers].count(201) == 1
        assert len({answer.json()["run_id"] for answer in answers}) == 1

    async def test_a_rejected_start_stays_rejected(self, api: httpx.AsyncClient) -> None:
        await start(api, 201, workflow_id="same")
        first = await start(api, 409, workflow_id="same", idempotency_key="k-1")
        again = await start(api, 409, workflow_id="same", idempotency_key="k-1")
        assert first["details"] == again["details"]

    async def test_a_duplicate_stays_that_run(self, api: httpx.AsyncClient) -> None:
        first = await start(api, 201, workflow_id="same")
        asked = {"workflow_id": "same", "id_conflict_policy": "use_existing"}
        for _ in range(2):
            again = await start(api, 200, **asked, idempotency_key="k-1")
            assert (again["run_id"], again["created"]) == (first["run_id"], False)


class TestWorkflowIds:
    async def test_one_that_is_taken(self, api: httpx.AsyncClient) -> None:
        first = await start(api, 201, workflow_id="same")
        error = await start(api, 409, workflow_id="same")
        assert error["error"] == "start_rejected"
        assert error["details"]["type"] == "WorkflowAlreadyStarted"
        rejected = (await api.get(f"/v1/runs/{error['details']['run_id']}")).json()
        assert rejected["status"] == "rejected"
        existing = await start(api, 200, workflow_id="same", id_conflict_policy="use_existing")
        assert (existing["run_id"], existing["created"]) == (first["run_id"], False)


class TestTypes:
    @pytest.fixture(autouse=True)
    async def announced(self, database: str, namespace: str) -> None:
        schema = {
            "type": "array",
            "prefixItems": [
                {
                    "type": "object",
                    "properties": {"order": {"type": "integer"}},
                    "required": ["order"],
                }
            ],
            "minItems": 1,
        }
        await record(
            database,
            WorkflowTypeSeen(
                namespace=namespace,
                name="OrderFulfilment",
                task_queue="announced",
                aliases=("order_fulfilment",),
                input_schema=schema,
            ),
        )

    async def test_by_alias_on_the_announced_queue(self, api: httpx.AsyncClient) -> None:
        run = await start(api, 201, workflow_type="order_fulfilment", task_queue=None)
        assert (run["workflow_type"], run["task_queue"]) == ("OrderFulfilment", "announced")

    async def test_input_that_does_not_fit(self, api: httpx.AsyncClient) -> None:
        error = await start(api, 422, input={"order": "seven"})
        assert (error["error"], error["details"]["field"]) == ("invalid_request", "input.order")
        assert (await api.get("/v1/runs")).json()["runs"] == []

    async def test_an_unknown_type(self, api: httpx.AsyncClient) -> None:
        error = await start(api, 404, workflow_type="OrderFulfillment", task_queue=None)
        assert error["error"] == "unknown_workflow_type"
        assert {"OrderFulfilment", "order_fulfilment"} >= set(error["details"]["near"]) > set()


class TestTemporalAway:
    async def test_is_accepted_and_started_later(
        self,
        database: str,
        namespace: str,
        temporal_server: EmbeddedTemporal,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        async with TcpProxy(temporal_server.port) as proxy:
            proxy.reset()
            monkeypatch.setenv("TEMPORAL_ADDRESS", proxy.address)
            monkeypatch.setenv("TEMPORAL_NAMESPACE", namespace)
            settings = api_settings(database, start_within=0.5)
            async with served(create_app(settings)) as api:
                run = await start(api, 202)
                assert (run["status"], run["temporal_run_id"]) == ("accepted", None)
                [found] = (await api.get("/v1/refs/order/o-7")).json()["runs"]
                assert found["run_id"] == run["run_id"]
                assert "flowtrail_outbox_size 1.0" in (await api.get("/metrics")).text
                proxy.pass_on()

                async def started() -> bool:
                    answer = await api.get(f"/v1/runs/{run['run_id']}")
                    return answer.json()["status"] == "running"

                await eventually(started, timeout=30)
                assert "flowtrail_outbox_size 0.0" in (await api.get("/metrics")).text
