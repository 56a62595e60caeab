"""Both clients against the real API, a real Temporal server and a tracked worker."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from api.settings import ApiSettings
from tests.api.over_http import listening
from tests.client.served_workflows import Checkout, Purchase, price_of
from tracker import errors
from tracker.client import AsyncTrackerClient, TrackerClient
from tracker.core.ids import Ref
from tracker.core.status import RunStatus
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.store import keys
from tracker.store.database import Database, DatabaseOptions
from tracker.temporal.plugin import TrackerPlugin
from tracker.temporal.reconcile import Reconciler

QUEUE = "checkout"


class Served:
    """Either client, called alike; the blocking one from a thread, so that the API can answer."""

    def __init__(self, client: TrackerClient | AsyncTrackerClient) -> None:
        self._client = client

    async def __call__(self, method: str, *args: Any, **kwargs: Any) -> Any:
        function = getattr(self._client, method)
        if isinstance(self._client, TrackerClient):
            return await asyncio.to_thread(_listed, function, *args, **kwargs)
        value = function(*args, **kwargs)
        return await value if inspect.isawaitable(value) else [item async for item in value]

    async def start(self, purchase: Purchase, **options: Any) -> Any:
        return await self("start_workflow", "Checkout", purchase, task_queue=QUEUE, **options)


def _listed(function: Any, *args: Any, **kwargs: Any) -> Any:
    value = function(*args, **kwargs)
    return list(value) if isinstance(value, Iterator) else value


@pytest.fixture
def api_url(
    database: str,
    temporal_server: EmbeddedTemporal,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", namespace)
    monkeypatch.setenv("FLOWTRAIL_DATABASE_URL", database)
    with listening(ApiSettings()) as url:  # pyright: ignore[reportCallIssue]
        yield url


@pytest.fixture
async def secret(database: str) -> str:
    async with Database(DatabaseOptions(database)) as opened:
        _, made = await keys.create(opened, "tests", ["read", "start", "control"])
    return made


@pytest.fixture
async def worker(temporal_client: Client, database: str, tmp_path: Path) -> AsyncIterator[None]:
    plugin = TrackerPlugin(database, spill_dir=tmp_path)
    config = temporal_client.config(active_config=True)
    config["plugins"] = [plugin]
    tracked = Worker(
        Client(**config), task_queue=QUEUE, workflows=[Checkout], activities=[price_of]
    )
    # The reconciler tells what a run continued as: its worker does not know.
    async with tracked, Reconciler(temporal_client, DatabaseOptions(database)):
        yield


@pytest.fixture(params=["sync", "async"])
async def served(
    request: pytest.FixtureRequest, api_url: str, secret: str
) -> AsyncIterator[Served]:
    if request.param == "sync":
        with TrackerClient(api_url, secret) as client:
            yield Served(client)
    else:
        async with AsyncTrackerClient(api_url, secret) as client:
            yield Served(client)


@pytest.mark.usefixtures("worker")
async def test_a_run_from_start_to_result_by_reference(served: Served) -> None:
    ref = Ref("order", "2026/07 #1%")
    run = await served.start(Purchase("abc"), ref=ref, metadata={"vip": True, "tier": "gold"})
    assert run.status in (RunStatus.RUNNING, RunStatus.COMPLETED)
    assert await served("result", run.run_id, timeout=30) == {"sku": "abc", "cents": 300}
    assert (await served("result", run.temporal_run_id, as_type=dict[str, int | str]))[
        "cents"
    ] == 300

    overview = await served("runs_by_ref", ref)
    assert [found.run_id for found in overview.runs] == [run.run_id]
    assert [workflow.runs_count for workflow in overview.workflows] == [1]
    detail = await served("get_run", run.run_id)
    (step,) = detail.steps
    assert (step.name, step.status, len(step.attempts)) == ("price_of", "completed", 1)
    assert (await served("get_step", run.run_id, step.step_id)).output.value == 300
    events = [entry.event for entry in (await served("timeline", run.run_id)).entries]
    assert {"run.started", "step.completed"} <= set(events)

    matching = {"ref": ref, "status": "completed", "metadata": {"vip": True, "tier": ["gold", "x"]}}
    page = await served("list_runs", workflow_type="Checkout", limit=1, **matching)
    assert [found.run_id for found in page.runs] == [run.run_id]
    assert (await served("list_runs", metadata={"vip": False})).runs == []
    (workflow,) = (await served("list_workflows", ref=ref)).workflows
    assert workflow.latest_run_id == run.run_id
    assert "Checkout" in [known.name for known in await served("workflow_types")]


@pytest.mark.usefixtures("worker")
async def test_a_run_is_signaled_queried_and_updated(served: Served) -> None:
    run = await served.start(Purchase("abc", waits=True))
    answer = await served("update", run.run_id, "note", "gift", update_id="u-1", wait=10)
    assert (answer.done, answer.result) == (True, 1)
    with pytest.raises(errors.RunNotFinished):
        await served("result", run.run_id, timeout=0.2)
    await served("signal", run.run_id, "pay", "card", reason="test")
    await served("result", run.run_id, timeout=30)
    assert await served("query", run.run_id, "notes") == ["gift", "card"]


@pytest.mark.usefixtures("worker")
async def test_endings_without_a_result_raise(served: Served) -> None:
    failing = await served.start(Purchase("abc", fails=True))
    with pytest.raises(errors.RunFailed, match="CardDeclined: no funds"):
        await served("result", failing.run_id, timeout=30)
    waiting = await served.start(Purchase("abc", waits=True))
    await served("cancel", waiting.run_id, reason="test")
    with pytest.raises(errors.RunCanceled):
        await served("result", waiting.run_id, timeout=30)


@pytest.mark.usefixtures("worker")
async def test_result_follows_the_run_chain(served: Served) -> None:
    run = await served.start(Purchase("abcd", rounds=3))
    assert (await served("result", run.run_id, timeout=30))["cents"] == 400
    with pytest.raises(errors.RunContinued):
        await served("result", run.run_id, follow_runs=False)


async def test_one_key_is_one_run(served: Served) -> None:
    key = uuid.uuid4().hex
    starts = [served.start(Purchase("abc"), idempotency_key=key) for _ in range(5)]
    runs = await asyncio.gather(*starts)
    assert len({run.run_id for run in runs}) == 1
    assert sorted(run.created for run in runs) == [False] * 4 + [True]
    with pytest.raises(errors.IdempotencyConflict):
        await served.start(Purchase("other"), idempotency_key=key)


async def test_iter_runs_walks_every_page(served: Served) -> None:
    runs = [await served.start(Purchase("abc"), ref=("order", str(n))) for n in range(5)]
    found = await served("iter_runs", workflow_type=["Checkout"], order="oldest", limit=2)
    assert [run.run_id for run in found] == [run.run_id for run in runs]


async def test_what_is_wrong_comes_back_as_its_class(served: Served) -> None:
    with pytest.raises(errors.UnknownWorkflowType):
        await served("start_workflow", "Chekout")
    with pytest.raises(errors.NotFound) as caught:
        await served("get_run", uuid.uuid4())
    assert caught.value.details["http_status"] == 404
    assert caught.value.details["request_id"]
    with pytest.raises(errors.InvalidRequest, match="cursor"):
        await served("list_runs", cursor="nonsense")


async def test_a_wrong_key_opens_nothing_but_readiness(api_url: str) -> None:
    async with AsyncTrackerClient(api_url, "ft_wrong") as client:
        with pytest.raises(errors.NotAuthenticated):
            await client.list_runs()
        assert (await client.ready()).database == "ok"


@pytest.mark.usefixtures("worker")
async def test_stats_tell_how_far_the_tables_are(served: Served) -> None:
    run = await served.start(Purchase("abc"))
    await served("result", run.run_id, timeout=30)
    stats = await served("stats")
    assert sum(stats.runs.values()) >= 1
    assert (stats.outbox.size, stats.outbox.dead, stats.unverifiable) == (0, 0, 0)
