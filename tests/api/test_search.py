"""Looking across runs over HTTP: parameters, answers, and the way from a group to its runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx

from tests.factories import ARun
from tracker.core.events import Failure
from tracker.core.fold import fold
from tracker.core.status import AttemptOutcome, StepStatus
from tracker.store.database import Database
from tracker.store.record import write_batch


async def a_failed_run(store: Database) -> ARun:
    run = ARun(namespace="default", started_at=datetime.now(UTC) - timedelta(minutes=1))
    error = Failure(type="Declined", message="card 4711 was declined")
    events = [
        run.started(),
        run.attempt_started(),
        run.attempt_completed(
            outcome=AttemptOutcome.FAILED,
            error=error,
            output=None,
            closes_step=StepStatus.FAILED,
        ),
        run.closed(),
    ]
    async with store.connection() as connection:
        await write_batch(connection, store.options.schema, fold(events))
    return run


async def test_from_a_group_to_its_steps_and_runs(api: httpx.AsyncClient, store: Database) -> None:
    run = await a_failed_run(store)
    told = (await api.get("/v1/failures", params={"error_text": "declined"})).json()
    [group] = told["groups"]
    assert (group["steps"], group["error_type"], told["truncated"]) == (1, "Declined", False)

    for path, params in (
        ("/v1/runs", {"failure": group["failure"]}),
        ("/v1/runs", {"failed_step": "charge", "roots_only": "true", "min_duration": "1"}),
        ("/v1/steps", {"failure": group["failure"], "status": "failed"}),
    ):
        answer = await api.get(path, params=params)
        assert answer.status_code == 200, answer.text
        [found] = answer.json()["runs" if path == "/v1/runs" else "steps"]
        assert found["run_id"] == str(run.identity.id)

    preview = await api.post(
        "/v1/bulk",
        json={"action": "rerun", "filter": {"failure": group["failure"]}, "dry_run": True},
    )
    assert preview.json()["count"] == 1, preview.text


async def test_figures_and_graph(api: httpx.AsyncClient, store: Database) -> None:
    await a_failed_run(store)
    stats = (await api.get("/v1/stats/workflows", params={"window": "3600"})).json()
    assert stats["workflow_types"][0]["runs"] == 1
    assert stats["steps"][0]["failure_rate"] == 1
    graph = (await api.get("/v1/workflow-types/OrderFulfilment/graph")).json()
    assert [edge["target"] for edge in graph["edges"]] == ["charge", None]


async def test_wrong_filters_are_refused(api: httpx.AsyncClient) -> None:
    for path in (
        "/v1/steps?status=odd",
        "/v1/steps?workflow=x",
        "/v1/steps?error_text=",
        "/v1/steps?failure=x",
        "/v1/failures?window=0",
        "/v1/failures?window=nan",
        "/v1/failures?limit=1000",
        "/v1/stats/workflows?window=1e12",
        "/v1/workflow-types/x/graph?window=-1",
        "/v1/runs?retrying=false",
        "/v1/runs?min_duration=-1",
        "/v1/runs?min_duration=1e300",
        "/v1/runs?parent=x",
        "/v1/queues?task_queue=",
        "/v1/audit?after=yesterday",
        "/v1/audit?run_id=x",
    ):
        answer = await api.get(path)
        assert answer.status_code == 422, (path, answer.text)
        assert answer.json()["error"] == "invalid_request"


async def test_queues_of_a_temporal_that_is_away(api: httpx.AsyncClient) -> None:
    assert (await api.get("/v1/queues")).json() == {"queues": [], "truncated": False}
    answer = await api.get("/v1/workers", params={"task_queue": "held"})
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"] == "temporal_unavailable"
