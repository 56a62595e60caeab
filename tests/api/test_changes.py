"""Running again, going back, pausing and changing metadata, over HTTP, with a real Temporal and a
tracked worker of the order example."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio import activity, workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.orders import AddressUnknown, Order, OrderActivities
from api.main import create_app
from examples.sample_shop import SampleInventory, SamplePayments, SampleShipping
from tests.api.conftest import api_settings, served
from tests.waiting import eventually
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.recorder.options import RecorderOptions
from tracker.store.database import Database, DatabaseOptions
from tracker.temporal.executions import describe
from tracker.temporal.plugin import TrackerPlugin
from tracker.temporal.reconcile import Reconciler, ReconcilerOptions
from workflows.order_fulfilment import OrderFulfilment, ShipOrder

QUEUE = "changes"


class CountingPayments(SamplePayments):
    """Counts how often anybody asked for money."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def charge(self, order_id: str, card: str, cents: int) -> str:
        self.calls += 1
        return await super().charge(order_id, card, cents)


class MoodyShipping(SampleShipping):
    """Goes nowhere until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.works = False

    async def book_courier(self, order_id: str, address: str) -> str:
        if not self.works:
            raise AddressUnknown("no courier today")
        return await super().book_courier(order_id, address)


class Shop:
    def __init__(self) -> None:
        self.inventory = SampleInventory({"book": 10})
        self.payments = CountingPayments()
        self.shipping = MoodyShipping()
        self.activities = OrderActivities(self.inventory, self.payments, self.shipping)


FLAKY = {"fails": True}


@activity.defn
async def flaky() -> str:
    if FLAKY["fails"]:
        raise ValueError("not yet")
    return "at last"


@workflow.defn
class Flaky:
    """One activity that fails for as long as it is told to, an hour apart."""

    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(
            flaky,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(hours=1)),
        )


@workflow.defn
class Waits:
    """Waits for `go`."""

    def __init__(self) -> None:
        self.gone = False

    @workflow.run
    async def run(self, given: Any) -> Any:
        await workflow.wait_condition(lambda: self.gone)
        return given

    @workflow.signal
    def go(self) -> None:
        self.gone = True


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def api(
    database: str,
    shop: Shop,
    temporal_client: Client,
    temporal_server: EmbeddedTemporal,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncIterator[httpx.AsyncClient]:
    """The API, a tracked worker of the shop and a quick reconciler."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", temporal_client.namespace)
    options = DatabaseOptions(database)
    plugin = TrackerPlugin(recorder=RecorderOptions(options, spill_dir=tmp_path))
    config = temporal_client.config()
    config["plugins"] = [plugin]
    tracked = Client(**config)
    orders = shop.activities
    async with (
        Worker(
            tracked,
            task_queue=QUEUE,
            workflows=[OrderFulfilment, ShipOrder, Flaky, Waits],
            activities=[
                orders.reserve,
                orders.release,
                orders.charge,
                orders.refund,
                orders.pack,
                orders.book_courier,
                flaky,
            ],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
        Reconciler(temporal_client, options, pace=ReconcilerOptions(interval=0.1, quiet=0)),
        served(create_app(api_settings(database))) as client,
    ):
        yield client


async def start(api: httpx.AsyncClient, workflow_type: str, **fields: Any) -> dict[str, Any]:
    body = {"workflow_type": workflow_type, "task_queue": QUEUE} | fields
    answer = await api.post("/v1/runs", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def start_order(api: httpx.AsyncClient) -> dict[str, Any]:
    order = Order("o-1", "book", 2, 1250, "card-1", "Main Street 1")
    return await start(
        api,
        "OrderFulfilment",
        input=asdict(order),
        ref_type="order",
        ref_id="o-1",
        metadata={"channel": "web"},
    )


async def post(api: httpx.AsyncClient, path: str, status: int, **body: Any) -> dict[str, Any]:
    answer = await api.post(path, json=body or None)
    assert answer.status_code == status, answer.text
    return answer.json()


async def ended(api: httpx.AsyncClient, run_id: str, status: str) -> dict[str, Any]:
    """The run, once history says that it has ended like that."""
    run: dict[str, Any] = {}

    async def so() -> bool:
        run.clear()
        run.update((await api.get(f"/v1/runs/{run_id}")).json())
        return run["status"] == status and run["from_history"]

    await eventually(so)
    return run


async def step_of(api: httpx.AsyncClient, run_id: str, name: str, **wanted: Any) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        run = (await api.get(f"/v1/runs/{run_id}")).json()
        found[:] = [
            step
            for step in run["steps"]
            if step["name"] == name and all(step[key] == v for key, v in wanted.items())
        ]
        return bool(found)

    await eventually(there)
    return found[0]


async def test_an_order_goes_on_from_its_failed_step_without_charging_twice(
    api: httpx.AsyncClient, shop: Shop
) -> None:
    run_id = (await start_order(api))["run_id"]
    await ended(api, run_id, "failed")
    shop.shipping.works = True

    preview = await post(api, f"/v1/runs/{run_id}/reset", 200, dry_run=True)
    assert preview["new_run_id"] is None
    # What was done because of the failure lies behind the point; it is told, not undone.
    assert preview["repeats"] == ["refund", "release"]
    answer = await post(api, f"/v1/runs/{run_id}/reset", 200, reason="courier is back")
    at_once = await api.get(f"/v1/runs/{answer['new_run_id']}")
    assert at_once.status_code == 200, at_once.text
    new = await ended(api, answer["new_run_id"], "completed")

    assert shop.payments.calls == 1
    assert new["temporal_run_id"] == answer["new_temporal_run_id"]
    assert (new["ref_type"], new["ref_id"]) == ("order", "o-1")
    assert (await ended(api, run_id, "failed"))["run_id"] == run_id
    overview = (await api.get("/v1/refs/order/o-1")).json()
    latest = [w for w in overview["workflows"] if w["workflow_type"] == "OrderFulfilment"]
    assert latest[0]["latest_run_id"] == answer["new_run_id"]
    assert latest[0]["runs_count"] == 2


async def test_a_run_goes_on_from_a_step_and_from_an_event(
    api: httpx.AsyncClient, shop: Shop
) -> None:
    run_id = (await start_order(api))["run_id"]
    run = await ended(api, run_id, "failed")
    charge = next(step for step in run["steps"] if step["name"] == "charge")
    shop.shipping.works = True

    answer = await post(api, f"/v1/runs/{run_id}/reset", 200, to="step", step_id=charge["step_id"])
    assert answer["repeats"][0] == "charge"
    await ended(api, answer["new_run_id"], "completed")
    assert shop.payments.calls == 2

    whole = await post(api, f"/v1/runs/{run_id}/reset", 200, to="event", event_id=1, dry_run=True)
    assert "reserve" in whole["repeats"]
    refused = await post(api, f"/v1/runs/{run_id}/reset", 422, to="event", event_id=9999)
    assert "has no event 9999" in refused["message"]
    await post(api, f"/v1/runs/{run_id}/reset", 422, to="step")


async def test_a_run_without_a_failed_step_has_no_such_point(api: httpx.AsyncClient) -> None:
    run_id = (await start(api, "Waits", input="x"))["run_id"]
    refused = await post(api, f"/v1/runs/{run_id}/reset", 409)
    assert "no step of this run failed" in refused["message"]


async def test_a_rerun_has_the_input_ref_and_metadata_of_the_run(
    api: httpx.AsyncClient, shop: Shop
) -> None:
    old = await start_order(api)
    await ended(api, old["run_id"], "failed")
    shop.shipping.works = True

    new = await post(api, f"/v1/runs/{old['run_id']}/rerun", 201)
    assert new["rerun_of"] == old["run_id"]
    assert new["workflow_id"] != old["workflow_id"]
    done = await ended(api, new["run_id"], "completed")
    assert done["input"]["value"][0]["order_id"] == "o-1"
    assert (done["ref_id"], done["metadata"]["channel"]) == ("o-1", "web")


async def test_a_rerun_with_one_key_happens_once(api: httpx.AsyncClient) -> None:
    old = await start(api, "Waits", input="x")
    path = f"/v1/runs/{old['run_id']}/rerun"
    first = await post(api, path, 201, idempotency_key="again")
    second = await post(api, path, 200, idempotency_key="again")
    assert first["run_id"] == second["run_id"]
    assert not second["created"]
    refused = await post(api, path, 409, idempotency_key="again", input="y")
    assert refused["error"] == "idempotency_conflict"


async def test_a_rerun_with_another_input(api: httpx.AsyncClient) -> None:
    old = await start(api, "Waits", input="x")
    new = await post(api, f"/v1/runs/{old['run_id']}/rerun", 201, input="other")
    await post(api, f"/v1/runs/{new['run_id']}/signal", 200, name="go")
    assert (await ended(api, new["run_id"], "completed"))["output"]["value"] == "other"


async def forgotten(temporal_client: Client, run: dict[str, Any]) -> None:
    """Make Temporal forget a run."""
    execution = WorkflowExecution(workflow_id=run["workflow_id"], run_id=run["temporal_run_id"])
    await temporal_client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=temporal_client.namespace, workflow_execution=execution
        )
    )

    async def gone() -> bool:
        return await describe(temporal_client, run["workflow_id"], seconds=5) is None

    await eventually(gone)


async def test_a_rerun_without_history_takes_the_complete_copy(
    api: httpx.AsyncClient, temporal_client: Client
) -> None:
    old = await start(api, "Waits", input={"a": [1, "ü"]})
    await forgotten(temporal_client, old)

    new = await post(api, f"/v1/runs/{old['run_id']}/rerun", 201)
    await post(api, f"/v1/runs/{new['run_id']}/signal", 200, name="go")
    done = await ended(api, new["run_id"], "completed")
    assert done["output"]["value"] == {"a": [1, "ü"]}


async def test_a_rerun_without_history_and_copy_is_refused(
    api: httpx.AsyncClient, database: str, temporal_client: Client
) -> None:
    old = await start(api, "Waits", input="secret")
    await forgotten(temporal_client, old)
    async with Database(DatabaseOptions(database)) as pool, pool.connection() as connection:
        await connection.execute(
            pool.sql("UPDATE {schema}.payload SET treatment = 'digest', body = NULL")
        )

    refused = await post(api, f"/v1/runs/{old['run_id']}/rerun", 409)
    assert refused["error"] == "input_not_available"
    assert "as 'digest'" in refused["message"]
    assert (await post(api, f"/v1/runs/{old['run_id']}/rerun", 201, args=["new"]))["rerun_of"]


async def test_a_paused_run_decides_nothing_until_it_is_unpaused(api: httpx.AsyncClient) -> None:
    run_id = (await start(api, "Waits", input="x"))["run_id"]
    await post(api, f"/v1/runs/{run_id}/pause", 200, reason="inspection")

    async def told() -> bool:
        return (await api.get(f"/v1/runs/{run_id}")).json()["paused_at"] is not None

    await eventually(told)
    await post(api, f"/v1/runs/{run_id}/signal", 200, name="go")
    answer = (await api.get(f"/v1/runs/{run_id}/result?wait=0.5")).json()
    assert not answer["done"]
    await post(api, f"/v1/runs/{run_id}/unpause", 200)
    await ended(api, run_id, "completed")


async def test_an_activity_is_paused_tried_again_and_unpaused(api: httpx.AsyncClient) -> None:
    FLAKY["fails"] = True
    run_id = (await start(api, "Flaky"))["run_id"]
    step = await step_of(api, run_id, "flaky", status="scheduled")
    path = f"/v1/runs/{run_id}/steps/{step['step_id']}"

    await post(api, f"{path}/retry", 200)

    async def tried_again() -> bool:
        return (await api.get(path)).json()["attempts_count"] >= 1 and len(
            (await api.get(path)).json()["attempts"]
        ) == 2

    await eventually(tried_again)
    await post(api, f"{path}/pause", 200, reason="wait for the fix")
    FLAKY["fails"] = False
    await post(api, f"{path}/unpause", 200, reset_attempts=True)
    run = await ended(api, run_id, "completed")
    assert run["output"]["value"] == "at last"
    refused = await post(api, f"{path}/pause", 409)
    assert "has ended as completed" in refused["message"]


async def test_metadata_that_people_change_stays(api: httpx.AsyncClient) -> None:
    run_id = (await start_order(api))["run_id"]
    answer = await api.patch(
        f"/v1/runs/{run_id}",
        json={"metadata": {"owner": "ann", "channel": None, "reason": "told by phone"}},
    )
    assert answer.status_code == 200, answer.text
    # The workflow itself sets failed_step and reason, later.
    run = await ended(api, run_id, "failed")
    assert run["metadata"] == {
        "owner": "ann",
        "failed_step": "ShipOrder",
        "reason": "told by phone",
    }
    found = (await api.get("/v1/runs", params={"metadata.owner": "ann"})).json()["runs"]
    assert [one["run_id"] for one in found] == [run_id]
    gone = (await api.get("/v1/runs", params={"metadata.channel": "web"})).json()["runs"]
    assert run_id not in [one["run_id"] for one in gone]


async def test_metadata_that_cannot_be_stored_is_refused(api: httpx.AsyncClient) -> None:
    run_id = (await start(api, "Waits", input="x"))["run_id"]
    for metadata in ({}, {"a": "\u0000"}, {"\u0000": 1}):
        answer = await api.patch(f"/v1/runs/{run_id}", json={"metadata": metadata})
        assert answer.status_code == 422, answer.text
