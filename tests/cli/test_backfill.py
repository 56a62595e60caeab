"""`backfill` as a command."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowHistory

from tests.cli.conftest import CommandLine
from tests.starts import count
from tests.temporal.other_sdks import a_history, go_details
from tests.waiting import eventually
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.store.database import Database
from tracker.temporal.executions import list_executions


@pytest.fixture
def connected(
    cli: CommandLine, database: str, temporal_server: EmbeddedTemporal, temporal_client: Client
) -> CommandLine:
    cli.set(database_url=database)
    cli.monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    cli.monkeypatch.setenv("TEMPORAL_NAMESPACE", temporal_client.namespace)
    return cli


async def test_old_runs_get_their_refs_by_the_rules(
    connected: CommandLine, temporal_client: Client
) -> None:
    (connected.folder / "flowtrail.toml").write_text(
        "[[refs]]\nworkflow_id = 'order-(?P<ref_id>.+)'\nref_type = 'order'"
    )
    handle = await temporal_client.start_workflow("Old", id="order-7", task_queue="none")
    await handle.terminate()

    async def brought_in() -> bool:
        told = await asyncio.to_thread(connected.run, "backfill")
        return "1 already on record" in told.stdout

    await eventually(brought_in)
    shown = await asyncio.to_thread(connected.run, "refs", "preview")
    assert "order/7" in shown.stdout


def test_files_need_no_temporal(cli: CommandLine, database: str) -> None:
    cli.set(database_url=database)
    cli.monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:9")
    folder = Path(cli.folder / "dumps")
    folder.mkdir()
    history = WorkflowHistory("", list(a_history(go_details).events))
    (folder / "one.json").write_text(history.to_json())
    (folder / "two.json").write_text("{}")
    result = cli.run("backfill", "--file", str(folder), code=1)
    assert "2 seen: 1 brought in" in result.stdout
    assert "two.json" in result.stdout.replace("\n", "")
    assert cli.run("backfill", "--file", "x", "--limit", "3", code=2)


async def test_a_backfill_that_was_killed_goes_on(
    connected: CommandLine, store: Database, temporal_client: Client
) -> None:
    for n in range(120):
        handle = await temporal_client.start_workflow("Old", id=f"old-{n}", task_queue="none")
        await handle.terminate()

    async def all_visible() -> bool:
        query = "ExecutionStatus = 'Terminated'"
        return len([i async for i in list_executions(temporal_client, query, seconds=5)]) == 120

    await eventually(all_visible)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tracker.cli", "backfill", "--concurrency", "1"
    )

    async def has_begun() -> bool:
        return await count(store, "run") > 0

    await eventually(has_begun)
    process.kill()
    await process.wait()
    before = await count(store, "run")
    facts = await asyncio.to_thread(connected.json, "backfill")
    assert before <= facts["there"] < 120  # A last write may have been under way.
    assert facts["there"] + facts["projected"] == facts["seen"] == 120
    assert await count(store, "run") == 120
