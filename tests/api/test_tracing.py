"""One trace from the request to the activity, and its id on the recorded attempt."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.client import Client
from temporalio.worker import Worker

from api.main import create_app
from tests.api.conftest import api_settings, served
from tests.temporal.tracking.private_workflows import UNMARKED, carry
from tests.waiting import eventually
from tracker.cli.tracing import Tracing, tracing
from tracker.embedded.temporal import EmbeddedTemporal
from tracker.recorder.options import RecorderOptions
from tracker.store.database import DatabaseOptions
from tracker.temporal.plugin import TrackerPlugin


@pytest.fixture
def spans() -> Iterator[tuple[Tracing, InMemorySpanExporter]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield Tracing(provider), exporter
    provider.shutdown()


async def test_a_key_in_a_path_stays_out_of_traces(
    database: str, spans: tuple[Tracing, InMemorySpanExporter]
) -> None:
    traced, exporter = spans
    async with served(create_app(api_settings(database), traced)) as api:
        for path in ("api/workflows/query", "typo"):
            await api.post(f"/k/ft_secret/{path}", json={})
    told = [span.to_json() for span in exporter.get_finished_spans()]
    assert told
    assert not any("ft_secret" in span for span in told)


async def test_a_request_is_traced_to_the_attempt(
    database: str,
    temporal_server: EmbeddedTemporal,
    temporal_client: Client,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    spans: tuple[Tracing, InMemorySpanExporter],
) -> None:
    traced, exporter = spans
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_server.address)
    monkeypatch.setenv("TEMPORAL_NAMESPACE", temporal_client.namespace)
    plugin = TrackerPlugin(
        recorder=RecorderOptions(DatabaseOptions(database), spill_dir=tmp_path, max_wait=5)
    )
    client = Client(
        temporal_client.service_client,
        namespace=temporal_client.namespace,
        plugins=[plugin],
        interceptors=traced.interceptors(),
    )
    body = {"workflow_type": "Carrying", "input": "x", "task_queue": "q"}
    async with (
        served(create_app(api_settings(database), traced)) as api,
        Worker(client, task_queue="q", workflows=UNMARKED, activities=[carry]),
    ):
        started = (await api.post("/v1/runs", json=body)).json()
        path = f"/v1/runs/{started['run_id']}"
        assert (await api.get(f"{path}/result?wait=20")).json()["done"]
        assert (await api.get("/healthz")).status_code == 200

        async def recorded() -> bool:
            steps = (await api.get(path)).json()["steps"]
            return len(steps) == 2 and all(step["attempts"][0]["trace_id"] for step in steps)

        await eventually(recorded)
        steps = (await api.get(path)).json()["steps"]
    found = {span.name: span for span in exporter.get_finished_spans()}
    request = found["POST /v1/runs"]
    assert request.context is not None
    trace = request.context.trace_id
    for name in ("RunWorkflow:Carrying", "RunActivity:carry"):
        context = found[name].context
        assert context is not None
        assert context.trace_id == trace, name
    assert {step["attempts"][0]["trace_id"] for step in steps} == {f"{trace:032x}"}
    assert not any("healthz" in name for name in found)


@contextmanager
def collector() -> Iterator[tuple[str, list[str]]]:
    """What takes spans by OTLP over HTTP: its address, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


async def test_spans_leave_by_otlp(monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as (address, asked):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")

        def send() -> None:
            with tracing("flowtrail-api", enabled=True) as traced:
                assert traced is not None
                assert traced.provider.resource.attributes["service.name"] == "mine"
                with traced.provider.get_tracer("t").start_as_current_span("one"):
                    pass

        await asyncio.to_thread(send)
    assert asked == ["/v1/traces"]
