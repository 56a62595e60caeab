"""`verify` as a command: what it prints, and its exit codes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import typer
from temporalio.client import Client

from tests.cli.conftest import CommandLine
from tests.cli.test_repair import record_started, run_row
from tracker.cli.spans import past_moment, share, span
from tracker.embedded.temporal import EmbeddedTemporal


@pytest.fixture
def connected(
    cli: CommandLine, database: str, temporal_server: EmbeddedTemporal, temporal_client: Client
) -> CommandLine:
    cli.set(database_url=database)
    cli.monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    cli.monkeypatch.setenv("TEMPORAL_NAMESPACE", temporal_client.namespace)
    cli.monkeypatch.setattr("tracker.temporal.verify.SETTLING", (0.1,))
    return cli


async def test_differences_are_told_and_with_repair_corrected(
    connected: CommandLine, database: str, temporal_client: Client
) -> None:
    handle = await temporal_client.start_workflow("Any", "in", id="w-1", task_queue="nobody")
    run_key = handle.first_execution_run_id or ""
    run_id = await record_started(database, temporal_client, "w-1", run_key)
    await handle.terminate("killed")

    told = await asyncio.to_thread(connected.run, "verify", code=1)
    assert "run.status" in told.stdout
    assert "differences in 1 runs" in told.stdout
    facts = await asyncio.to_thread(connected.json, "verify", "--repair")
    assert (facts["different_runs"], facts["repaired_runs"]) == (1, 1)
    [found] = facts["found"]
    assert (found["run_id"], found["repaired"]) == (str(run_id), True)
    assert {"table": "run", "row": "run", "column": "status"}.items() <= next(
        one for one in found["differences"] if one["column"] == "status"
    ).items()
    assert (await run_row(database, run_id))["status"] == "terminated"
    again = await asyncio.to_thread(connected.run, "verify", "--since", "1h", "--sample", "100%")
    assert "1 runs compared" in again.stdout
    assert "0 differences in 0 runs" in again.stdout


async def test_a_temporal_that_is_away_is_exit_code_3(
    connected: CommandLine, database: str, temporal_client: Client
) -> None:
    await record_started(database, temporal_client, "w", str(uuid4()))
    connected.monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:9")
    result = await asyncio.to_thread(connected.run, "verify", code=3)
    assert "Temporal cannot be reached" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--since", "yesterday"), "2026-11-01"),
        (("--since", "999999999w"), "longer than time"),
        (("--sample", "0"), "expected a part"),
        (("--sample", "101%"), "expected a part"),
        (("--ref", "order"), "ref_type/ref_id"),
    ],
)
def test_wrong_arguments_say_what_is_right(
    cli: CommandLine, arguments: tuple[str, ...], told: str
) -> None:
    assert told in cli.run("verify", *arguments, code=2).stderr


def test_moments_spans_and_parts() -> None:
    assert span("90d") == timedelta(days=90)
    assert past_moment("2026-11-01") == datetime(2026, 11, 1, tzinfo=UTC)
    assert past_moment("2026-11-01T10:00:00+02:00").hour == 10
    ago = datetime.now(UTC) - past_moment("1h")
    assert timedelta(minutes=59) < ago < timedelta(minutes=61)
    assert share("5%") == share("0.05") == 0.05
    with pytest.raises(typer.BadParameter, match="90d"):
        span("90")
