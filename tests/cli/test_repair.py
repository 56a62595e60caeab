"""`repair` against a real history."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio.client import Client

from tests.cli.conftest import CommandLine
from tests.factories import ARun
from tracker.core.events import RunStarted
from tracker.core.fold import fold
from tracker.core.ids import new_id
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.store.database import DatabaseOptions, dedicated
from tracker.store.record import write_batch


@pytest.fixture
def connected(
    cli: CommandLine, database: str, temporal_server: EmbeddedTemporal, temporal_client: Client
) -> CommandLine:
    cli.set(database_url=database)
    cli.monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    cli.monkeypatch.setenv("TEMPORAL_NAMESPACE", temporal_client.namespace)
    return cli


async def record_started(dsn: str, client: Client, workflow_id: str, run_key: str) -> UUID:
    """What a worker recorded before it died."""
    run = ARun(namespace=client.namespace, ref=None, run_key=UUID(run_key)).identity
    started = RunStarted(run=replace(run, workflow_id=workflow_id), history_length=3)
    async with dedicated(DatabaseOptions(dsn)) as connection:
        await write_batch(connection, "flowtrail", fold([started]))
    return run.id


async def run_row(dsn: str, run_id: UUID) -> dict[str, Any]:
    async with dedicated(DatabaseOptions(dsn)) as connection:
        sql = "SELECT * FROM flowtrail.v_runs WHERE run_id = %s"
        row = await (await connection.execute(sql, [run_id])).fetchone()
    assert row is not None
    return row


async def test_repair_makes_the_rows_what_history_says(
    connected: CommandLine, database: str, temporal_client: Client
) -> None:
    (connected.folder / "flowtrail.toml").write_text(
        "[[refs]]\nworkflow_id = 'order-(?P<ref_id>.+)'\nref_type = 'order'"
    )
    workflow_id = f"order-{uuid4()}"
    handle = await temporal_client.start_workflow(
        "OrderFulfilment", {"sku": "s-1"}, id=workflow_id, task_queue="nobody"
    )
    run_key = handle.first_execution_run_id or ""
    run_id = await record_started(database, temporal_client, workflow_id, run_key)
    await handle.terminate("killed")
    for asked in (str(run_id), run_key):
        result = await asyncio.to_thread(connected.run, "repair", asked)
        assert "from 3 history events" in result.stdout
    row = await run_row(database, run_id)
    assert (row["status"], row["from_history"]) == ("terminated", True)
    assert (row["ref_type"], row["ref_id"]) == ("order", workflow_id.removeprefix("order-"))
    assert row["input"] == [{"sku": "s-1"}]


async def test_values_are_kept_as_the_setting_says(
    connected: CommandLine, database: str, temporal_client: Client
) -> None:
    connected.set(payload_default="digest")
    handle = await temporal_client.start_workflow("Secret", "pw", id="s", task_queue="nobody")
    run_key = handle.first_execution_run_id or ""
    run_id = await record_started(database, temporal_client, "s", run_key)
    await asyncio.to_thread(connected.json, "repair", str(run_id))
    assert (await run_row(database, run_id))["input"] is None


def test_an_unknown_run_is_told(cli: CommandLine, database: str) -> None:
    cli.set(database_url=database)
    assert "run" in cli.run("repair", str(new_id()), code=1).stderr
    assert "UUID" in cli.run("repair", "abc", code=2).stderr


async def test_a_temporal_that_is_away_is_exit_code_3(
    connected: CommandLine, database: str, temporal_client: Client
) -> None:
    run_id = await record_started(database, temporal_client, "w", str(uuid4()))
    connected.monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:9")
    result = await asyncio.to_thread(connected.run, "repair", str(run_id), code=3)
    assert "Temporal cannot be reached" in result.stderr
