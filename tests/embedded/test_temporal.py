"""The embedded Temporal on its own: what it serves, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import socket
import sys
import urllib.request
import uuid
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from temporalio import workflow
from temporalio.api.nexus.v1 import EndpointSpec, EndpointTarget
from temporalio.api.operatorservice.v1 import CreateNexusEndpointRequest
from temporalio.api.workflowservice.v1 import PauseWorkflowExecutionRequest
from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.worker import Worker

from tracker.embedded import temporal
from tracker.embedded.binaries import temporal_program
from tracker.embedded.ports import LOOPBACK, free_port
from tracker.embedded.process import EmbeddedServerFailed
from tracker.embedded.temporal import EmbeddedTemporal


@workflow.defn
class Counter:
    """Waits until an update has come, after a short timer."""

    def __init__(self) -> None:
        self.total = 0

    @workflow.run
    async def run(self) -> int:
        await asyncio.sleep(0.01)
        await workflow.wait_condition(lambda: self.total > 0)
        return self.total

    @workflow.update
    async def add(self, number: int) -> int:
        self.total += number
        return self.total


async def test_every_namespace_answers_at_once(folder: Path) -> None:
    with EmbeddedTemporal.start(
        headless=True, namespaces=["orders", "billing"], log_file=folder / "temporal.log"
    ) as server:
        assert server.namespaces == ("default", "orders", "billing")
        for name in server.namespaces:
            client = await Client.connect(server.address, namespace=name)
            await client.start_workflow("Counter", id="c-1", task_queue="counting")
    assert not psutil.pid_exists(server.pid)


async def test_runs_in_a_file_survive_a_restart(folder: Path) -> None:
    file = folder / "made when missing" / "temporal.db"
    with EmbeddedTemporal.start(file, headless=True) as server:
        client = await Client.connect(server.address)
        handle = await client.start_workflow("Counter", id="c-1", task_queue="counting")
        started = await handle.describe()

    with EmbeddedTemporal.start(file, headless=True) as server:
        client = await Client.connect(server.address)
        assert (await client.get_workflow_handle("c-1").describe()).run_id == started.run_id


def test_takes_the_next_ports_when_the_preferred_ones_are_busy() -> None:
    with (
        socket.create_server((LOOPBACK, free_port(17_000))) as busy,
        socket.create_server((LOOPBACK, free_port(18_000))) as busy_ui,
    ):
        preferred = busy.getsockname()[1]
        preferred_ui = busy_ui.getsockname()[1]
        with EmbeddedTemporal.start(port=preferred, ui_port=preferred_ui) as server:
            assert server.port > preferred
            assert server.ui_port is not None
            assert server.ui_port > preferred_ui
            assert server.ui_url is not None
            with urllib.request.urlopen(server.ui_url) as page:
                assert b"<html" in page.read()


def test_listens_on_loopback_only(temporal_server: EmbeddedTemporal) -> None:
    connections = psutil.Process(temporal_server.pid).net_connections("inet")
    listening = {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    assert listening == {LOOPBACK}


def test_tells_the_end_of_the_log_when_the_server_dies() -> None:
    with pytest.raises(EmbeddedServerFailed, match="--no-such-option"):
        EmbeddedTemporal.start(headless=True, extra_arguments=["--no-such-option"])


def test_a_crash_at_the_start_is_told_by_its_beginning_and_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server has a rare race of its own (temporalio/cli#199); Go says why it crashed before
    some hundred lines of stacks. What it left of a new database no server starts on again."""
    file = folder / "temporal.db"
    crashing = folder / "crashing"
    crashing.write_text(
        "#!/bin/sh\n"
        f"if mkdir '{folder}/crashed'; then\n"
        f"  '{sys.executable}' -c 'import sqlite3; sqlite3.connect(\"{file}\").execute("
        '"CREATE TABLE half (made INTEGER)")\'\n'
        "  echo 'fatal error: concurrent map read and map write'\n"
        "  yes 'goroutine 1 [running]:' | head -n 1000\n"
        "  exit 2\n"
        "fi\n"
        f"exec '{temporal_program()}' \"$@\"\n"
    )
    crashing.chmod(0o755)
    monkeypatch.setattr(temporal, "temporal_program", lambda: crashing)
    with EmbeddedTemporal.start(file, headless=True) as server:
        assert psutil.pid_exists(server.pid)
    assert "exit code 2; its output:\nfatal error: concurrent map" in caplog.text
    assert "was never finished" in caplog.text
    assert len(caplog.text) < 5_000
    assert len(list(folder.glob("temporal.db.unfinished-*"))) == 1
    with EmbeddedTemporal.start(file, headless=True):
        assert len(list(folder.glob("temporal.db.unfinished-*"))) == 1


async def test_serves_what_the_tracker_records(temporal_client: Client) -> None:
    """Update-with-start, pausing and Nexus, which some versions of the server keep switched off."""
    async with Worker(temporal_client, task_queue="counting", workflows=[Counter]):
        start = WithStartWorkflowOperation(
            Counter.run,
            id="c-1",
            task_queue="counting",
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        added = await temporal_client.execute_update_with_start_workflow(
            Counter.add, 3, start_workflow_operation=start
        )
        assert added == 3
        assert await (await start.workflow_handle()).result() == 3

    await temporal_client.start_workflow("Counter", id="c-2", task_queue="nobody-polls")
    await temporal_client.workflow_service.pause_workflow_execution(
        PauseWorkflowExecutionRequest(
            namespace=temporal_client.namespace,
            workflow_id="c-2",
            reason="test",
            request_id=str(uuid.uuid4()),
        )
    )
    worker = EndpointTarget.Worker(namespace=temporal_client.namespace, task_queue="counting")
    await temporal_client.operator_service.create_nexus_endpoint(
        CreateNexusEndpointRequest(
            spec=EndpointSpec(name="counting", target=EndpointTarget(worker=worker))
        )
    )


async def test_short_timers_are_short(temporal_client: Client) -> None:
    """The stock server fires them up to a second late, and every test would wait for that. The
    shortest of some, for a busy machine is late now and then."""
    taken: list[float] = []
    async with Worker(temporal_client, task_queue="counting", workflows=[Counter]):
        for n in range(5):
            started = asyncio.get_running_loop().time()
            handle = await temporal_client.start_workflow(
                Counter.run, id=f"c-{n}", task_queue="counting"
            )
            await handle.execute_update(Counter.add, 1)
            await handle.result(rpc_timeout=timedelta(seconds=10))
            taken.append(asyncio.get_running_loop().time() - started)
    assert min(taken) < 0.5
