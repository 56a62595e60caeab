"""Servers elsewhere, two API and two worker processes by settings alone: one of each is killed in
the middle of a job, and the job completes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.e2e.processes import program
from tests.waiting import eventually
from tracker.client import AsyncTrackerClient
from tracker.embedded.ports import free_port
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.errors import TrackerError
from workers.smtp_sink import SmtpSink, is_greylisted

RECIPIENTS = [f"reader-{number}@example.com" for number in range(25)]


@pytest.mark.timeout(120)
async def test_a_job_survives_the_death_of_a_worker_and_an_api(
    database: str, namespace: str, temporal_server: EmbeddedTemporal, tmp_path: Path
) -> None:
    sink = SmtpSink(window=3.0)
    environment = {
        "FLOWTRAIL_DATABASE_URL": database,
        "FLOWTRAIL_AUTH": "off",
        "FLOWTRAIL_SMTP_PORT": str(await sink.start()),
        "FLOWTRAIL_SPILL_DIR": str(tmp_path / "spill"),
        "TEMPORAL_ADDRESS": temporal_server.address,
        "TEMPORAL_NAMESPACE": namespace,
    }
    ports = [free_port(), free_port()]
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(program("worker", tmp_path / f"w{n}", environment))
            for n in range(2)
        ]
        apis = [
            await stack.enter_async_context(
                program("api", tmp_path / f"a{n}", environment | {"FLOWTRAIL_API_PORT": str(port)})
            )
            for n, port in enumerate(ports)
        ]
        clients = [
            await stack.enter_async_context(AsyncTrackerClient(f"http://127.0.0.1:{port}"))
            for port in ports
        ]
        for client in clients:
            await eventually(lambda client=client: _is_served(client), timeout=30)
        started = await clients[0].start_workflow(
            "email_campaign",
            {"recipients": RECIPIENTS, "subject": "Hello", "body": "World"},
            ref="campaign/e2e",
        )
        await eventually(lambda: sink.counts.greylisted > 0, timeout=30)
        await workers[0].kill()
        await apis[0].kill()
        output = await clients[1].result(started.run_id, timeout=60)
        assert output["sent"] == len(RECIPIENTS)
        overview = await clients[1].runs_by_ref("campaign/e2e")
        assert [run.status for run in overview.runs] == ["completed"]
        run = await clients[1].get_run(started.run_id)
        steps = [step.name for step in run.steps if step.kind == "activity"]
        assert steps == ["validate-recipients", *["send-emails"] * 3, "report"]
        assert await workers[1].stop() == 0
        # uvicorn stops gracefully, then ends by the signal that it got.
        assert await apis[1].stop() in (0, -SIGTERM)
        assert "Application shutdown complete" in apis[1].log
    await sink.stop()
    # A kill between a mail and the heartbeat that notes it may mail one recipient again.
    assert all(sink.counts.deliveries[address] for address in RECIPIENTS)
    assert any(is_greylisted(address) for address in RECIPIENTS)


async def _is_served(client: AsyncTrackerClient) -> bool:
    try:
        return any(found.registered_at for found in await client.workflow_types())
    except TrackerError:
        return False
