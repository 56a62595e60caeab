"""Through a pooler in transaction mode, where a statement may not count on the one before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from temporalio.client import Client
from temporalio.worker import Worker

from api.main import create_app
from tests.api.conftest import api_settings, served
from tests.api.recorded import payload, record
from tests.cli.conftest import CommandLine
from tests.factories import ARun
from tests.pgbouncer import pooled
from tests.temporal.tracking.payload_workflows import ACTIVITIES, WORKFLOWS
from tracker.core.ids import Ref
from tracker.models.filters import RunFilter
from tracker.recorder.options import RecorderOptions
from tracker.store.database import Database, DatabaseOptions
from tracker.store.run_queries import list_runs
from tracker.temporal.plugin import TrackerPlugin


@pytest.fixture
def pooler(database: str) -> Iterator[str]:
    with pooled(database) as dsn:
        yield dsn


async def test_the_api_serves_many_at_once(database: str, pooler: str) -> None:
    run = ARun()
    await record(
        database,
        run.started(metadata={"n": 1}, input=payload([1])),
        run.attempt_started(),
        run.attempt_completed(),
        run.closed(),
    )
    settings = api_settings(pooler, direct_database_url=database)
    start = {"workflow_type": "Order", "ref_type": "order", "task_queue": "q"}
    paths = [
        *("/v1/runs", "/v1/runs?status=completed&workflow_type=OrderFulfilment"),
        *("/v1/runs?metadata.n=1", f"/v1/runs/{run.run_key}", "/v1/refs/order/o-1"),
        *("/v1/steps", "/v1/failures?error_text=x", "/v1/stats/workflows", "/v1/stats"),
        *("/v1/workflows", "/v1/workflow-types", "/v1/audit", "/v1/bulk", "/readyz"),
    ]
    async with served(create_app(settings)) as client:
        for _ in range(3):
            answers = await asyncio.gather(*(client.get(path) for path in paths * 4))
            assert {answer.status_code for answer in answers} == {200}
        started = await asyncio.gather(
            *(client.post("/v1/runs", json=start | {"ref_id": f"p-{n}"}) for n in range(20))
        )
        assert {answer.status_code for answer in started} == {202}
        found = (await client.get("/v1/runs?ref_type=order&status=accepted&limit=100")).json()
        assert len(found["runs"]) == 20


async def test_workers_record_past_it(
    database: str, pooler: str, temporal_client: Client, tmp_path: Path
) -> None:
    options = DatabaseOptions(pooler, direct_dsn=database)
    plugin = TrackerPlugin(recorder=RecorderOptions(options, spill_dir=tmp_path))
    client = Client(
        temporal_client.service_client, namespace=temporal_client.namespace, plugins=[plugin]
    )
    async with Worker(client, task_queue="q", workflows=WORKFLOWS, activities=ACTIVITIES):
        await client.execute_workflow("Confidant", "x", id="w", task_queue="q")
    async with Database(options, max_connections=2) as store:
        found = await list_runs(store, temporal_client.namespace, RunFilter())
    assert [run.status for run in found.runs] == ["completed"]


def test_commands_work_through_it(cli: CommandLine, database: str, pooler: str) -> None:
    cli.set(database_url=pooler, direct_database_url=database)
    assert "up to date" in cli.run("migrate").stdout
    assert cli.run("keys", "create", "ci").stdout.startswith("ft_")
    cli.run("keys", "rotate", "ci")
    cli.run("hold", "add", str(Ref("order", "o-1")), "--reason", "lawsuit")
    cli.run("purge", "--older-than", "90d")
    with psycopg.connect(database) as connection:
        audited = connection.execute("SELECT count(*) FROM flowtrail.audit").fetchone()
    assert audited == (4,)


def json_of(text: str) -> list[dict[str, str]]:
    return json.loads(text)["findings"]


def test_the_doctor_sees_it(cli: CommandLine, database: str, pooler: str) -> None:
    def pooler_check(**settings: str) -> tuple[str, str]:
        cli.set(**settings)
        result = cli.run("doctor", "--json", code=1)  # There is no Temporal.
        [found] = [f for f in json_of(result.stdout) if f["check"] == "pooler"]
        return found["health"], found["found"]

    assert pooler_check(database_url=database) == ("ok", "none")
    assert pooler_check(database_url=pooler) == ("warning", "there is one before the database")
    told = pooler_check(database_url=pooler, direct_database_url=database)
    assert told == ("ok", "one, and a way past it")
    told = pooler_check(database_url=pooler, direct_database_url=pooler)
    assert told == ("failed", "the direct URL leads through a pooler too")
