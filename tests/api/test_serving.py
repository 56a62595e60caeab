"""`flowtrail api` as a process: it starts without Temporal, stops in order, and says why it cannot
start."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.api.recorded import recorded_run
from tests.factories import ARun
from tests.waiting import eventually
from tracker.embedded.ports import free_port


@asynccontextmanager
async def api_process(**environment: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tracker.cli",
        "api",
        env={**os.environ, "FLOWTRAIL_AUTH": "off", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_it_serves_without_temporal_and_stops_in_order(database: str) -> None:
    run = await recorded_run(database, ARun())
    port = free_port()
    environment = {"FLOWTRAIL_DATABASE_URL": database, "FLOWTRAIL_API_PORT": str(port)}
    async with (
        api_process(**environment) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=40) as api,
    ):

        async def serves() -> bool:
            try:
                return (await api.get("/readyz")).json()["status"] == "degraded"
            except httpx.TransportError:
                return False

        await eventually(serves, timeout=30)
        waiting = asyncio.create_task(api.get(f"/v1/runs/{run.identity.id}/result?wait=60"))
        # Once this is answered, the one before it has been received too.
        assert (await api.get("/healthz")).status_code == 200
        process.terminate()
        answer = await asyncio.wait_for(waiting, 10)
        assert (answer.status_code, answer.json()["done"]) == (200, False)
        # uvicorn ends in order, then by the signal that it was sent, as is the custom.
        assert await asyncio.wait_for(process.wait(), 10) == -signal.SIGTERM
        output, _ = await process.communicate()
        assert b"Application shutdown complete" in output


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"FLOWTRAIL_API_HOST": "0.0.0.0"}, "auth=off is for loopback only"),
        ({"FLOWTRAIL_API_PORT": "http"}, "FLOWTRAIL_API_PORT"),
        ({"FLOWTRAIL_SCHEMA": "Bad Schema"}, "lower-case identifier"),
        ({"FLOWTRAIL_DATA_CONVERTER": "json:loads"}, "to be a DataConverter"),
    ],
    ids=str,
)
async def test_settings_that_cannot_be_served(environment: dict[str, str], words: str) -> None:
    given = {"FLOWTRAIL_DATABASE_URL": "postgresql://127.0.0.1:1/x"} | environment
    async with api_process(**given) as process:
        output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert words in output.decode()
    assert "Traceback" not in output.decode()
    assert process.returncode not in (0, None)


async def test_a_busy_port(database: str) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        environment = {"FLOWTRAIL_DATABASE_URL": database, "FLOWTRAIL_API_PORT": str(port)}
        async with api_process(**environment) as process:
            output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert f"127.0.0.1:{port}" in output.decode()
    assert process.returncode not in (0, None)
