"""Failures: one shape everywhere, nothing internal in it, and never a 500 for what callers send."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI

from api.main import create_app
from api.settings import ApiSettings
from tests.api.conftest import api_settings, served
from tests.proxy import TcpProxy
from tests.waiting import eventually
from tracker.core.ids import new_id
from tracker.errors import TrackerError
from tracker.models.wire import ErrorBody


def body_of(answer: httpx.Response, status: int) -> ErrorBody:
    """The error body, after checking that it is one."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert set(answer.json()) == {"error", "message", "class", "details"}
    assert answer.headers["X-Request-Id"]
    return ErrorBody.model_validate_json(answer.content)


RUN_ID = "019ca9a1-0000-7000-8000-000000000001"
HOSTILE: list[tuple[str, str]] = [
    ("/v1/runs?limit=0", "limit"),
    ("/v1/runs?limit=501", "limit"),
    ("/v1/runs?limit=" + "9" * 5000, "limit"),
    ("/v1/runs?limit=x", "limit"),
    ("/v1/runs?statsu=failed", "statsu"),
    ("/v1/runs?status=nonsense", "status.0"),
    ("/v1/runs?status=", "status.0"),
    ("/v1/runs?cursor=%00", "cursor"),
    ("/v1/runs?cursor=AAAA", "cursor"),
    ("/v1/runs?cursor=%F0%9F%92%A9", "cursor"),
    ("/v1/runs?workflow_type=%00", "workflow_type.0"),
    ("/v1/runs?" + "&".join(f"workflow_type=t{n}" for n in range(21)), "workflow_type"),
    ("/v1/runs?workflow_id=a%00b", "workflow_id"),
    ("/v1/runs?ref_id=o-1", ""),
    ("/v1/runs?ref_type=a/b", "ref_type"),
    ("/v1/runs?ref_type=" + "x" * 101, "ref_type"),
    ("/v1/runs?metadata=x", "metadata"),
    ("/v1/runs?metadata.%00=x", "metadata.\x00.[key]"),
    ("/v1/runs?metadata.k=%00", "metadata.k.0"),
    ("/v1/runs?metadata.k=" + "x" * 257, "metadata.k.0"),
    ("/v1/runs?started_after=yesterday", "started_after"),
    ("/v1/runs?started_after=2026-01-01T00:00:00", "started_after"),
    ("/v1/runs?started_after=1e400", "started_after"),
    ("/v1/runs?order=sideways", "order"),
    ("/v1/runs/not-a-uuid", "run_id"),
    (f"/v1/runs/{RUN_ID}?expand=1", "expand"),
    (f"/v1/runs/{RUN_ID}/steps/0", "step_id"),
    (f"/v1/runs/{RUN_ID}/result?wait=61", "wait"),
    (f"/v1/runs/{RUN_ID}/result?wait=nan", "wait"),
    ("/v1/refs/order/a%00b", "ref_id"),
    ("/v1/refs/order/" + "x" * 201, "ref_id"),
    ("/v1/refs/" + "x" * 101 + "/1", "ref_type"),
    ("/v1/refs/order/o-1?limit=-1", "limit"),
    ("/v1/workflows?ref_type=order", ""),
    ("/v1/workflows?status=failed", "status"),
    ("/v1/workflow-types?x=1", "x"),
    ("/healthz?x=1", "x"),
]


@pytest.mark.parametrize(("path", "field"), HOSTILE, ids=[path[:60] for path, _ in HOSTILE])
async def test_a_wrong_request_names_its_field(
    shared_api: httpx.AsyncClient, path: str, field: str
) -> None:
    error = body_of(await shared_api.get(path), 422)
    assert (error.error, error.error_class) == ("invalid_request", "invalid")
    assert error.details["field"] == field
    assert field in error.message


@pytest.mark.parametrize(
    "path",
    [
        "/v1/runs?started_after=0001-01-01T00:00:00%2B14:00",
        "/v1/runs?started_before=9999-12-31T23:59:59-14:00",
        "/v1/runs?finished_after=1&finished_before=9999-12-31T23:59:59Z",
        "/v1/runs?workflow_id=%ED%A0%80",
        "/v1/runs?metadata.%F0%9F%92%A9=%27;DROP%20TABLE%20run;--",
        "/v1/runs?metadata.a.b=%25s%25(x)s{}{schema}",
        "/v1/runs?task_queue=%25%28limit%29s",
        "/v1/refs/order/a/b/../c",
        "/v1/refs/%7Bschema%7D/%25s",
    ],
)
async def test_odd_requests_that_are_right(shared_api: httpx.AsyncClient, path: str) -> None:
    answer = await shared_api.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.json()["runs"] == []


START_BODIES: list[tuple[bytes, str]] = [
    (b"", ""),
    (b"{", ""),
    (b"null", ""),
    (b"[]", ""),
    (b'"x"', ""),
    (b"\xff\xfe", ""),
    (b"[" * 100_000, ""),
    (b'{"workflow_type": "A", "input": NaN}', ""),
    (b'{"workflow_type": "A", "input": -Infinity}', ""),
    (b'{"workflow_type": "A", "input": 1e999}', ""),
    (b'{"workflow_type": "A", "input": ' + b"9" * 5000 + b"}", ""),
    (b'{"workflow_type": "A\\u0000"}', "workflow_type"),
    (b'{"workflow_type": "\\ud800"}', "workflow_type"),
    (b'{"workflow_type": ""}', "workflow_type"),
    (b'{"workflow_type": 7}', "workflow_type"),
    (b"{}", "workflow_type"),
    (b'{"workflow_type": "A", "inptu": 1}', "inptu"),
    (b'{"workflow_type": "A", "input": 1, "args": [2]}', ""),
    (b'{"workflow_type": "A", "ref_type": "order"}', ""),
    (b'{"workflow_type": "A", "ref_type": "a/b", "ref_id": "1"}', "ref_type"),
    (b'{"workflow_type": "A", "metadata": {"a": "\\u0000"}}', "metadata"),
    (b'{"workflow_type": "A", "metadata": {"a": "\\ud800"}}', "metadata"),
    (b'{"workflow_type": "A", "metadata": [1]}', "metadata"),
    (b'{"workflow_type": "A", "start_delay": -1}', "start_delay"),
    (b'{"workflow_type": "A", "run_timeout": 1e300}', "run_timeout"),
    (b'{"workflow_type": "A", "priority": {"priority_key": 9}}', "priority.priority_key"),
    (b'{"workflow_type": "A", "id_reuse_policy": "never"}', "id_reuse_policy"),
]


@pytest.mark.parametrize(
    ("body", "field"), START_BODIES, ids=[str(b[:50]) for b, _ in START_BODIES]
)
async def test_a_wrong_body_names_its_field(
    shared_api: httpx.AsyncClient, body: bytes, field: str
) -> None:
    headers = {"Content-Type": "application/json"}
    error = body_of(await shared_api.post("/v1/runs", content=body, headers=headers), 422)
    assert (error.error, error.details["field"]) == ("invalid_request", field)


async def test_what_is_not_json_is_refused(shared_api: httpx.AsyncClient) -> None:
    error = body_of(await shared_api.post("/v1/runs", content=b"workflow_type=A"), 422)
    assert error.error == "invalid_request"


async def test_unknown_routes_and_methods(shared_api: httpx.AsyncClient) -> None:
    assert body_of(await shared_api.get("/v2/runs"), 404).error == "not_found"
    assert body_of(await shared_api.get("/v1/runs/"), 404).error == "not_found"
    answer = await shared_api.delete("/v1/workflows")
    assert body_of(answer, 405).error == "method_not_allowed"
    assert answer.headers["Allow"] == "GET"


class TestBodyLimit:
    @pytest.fixture
    def settings(self, database: str) -> ApiSettings:
        return api_settings(database, body_limit=2000)

    async def test_an_announced_length(self, api: httpx.AsyncClient) -> None:
        body = {"workflow_type": "A", "input": "x" * 3000}
        error = body_of(await api.post("/v1/runs", json=body), 413)
        assert (error.error, error.error_class) == ("payload_too_large", "invalid")

    async def test_a_stream_of_unknown_length(self, api: httpx.AsyncClient) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b'{"workflow_type": "A", "input": "'
            for _ in range(300):
                yield b"x" * 100

        answer = await api.post(
            "/v1/runs", content=chunks(), headers={"Content-Type": "application/json"}
        )
        assert body_of(answer, 413).error == "payload_too_large"

    @pytest.mark.parametrize("length", ["9" * 30, "²", "-1", "1e9"])
    async def test_an_odd_length(self, api: httpx.AsyncClient, length: str) -> None:
        answer = await api.post(
            "/v1/runs", content=b"{}", headers={b"Content-Length": length.encode()}
        )
        assert answer.status_code in (413, 422)

    async def test_up_to_the_limit(self, api: httpx.AsyncClient) -> None:
        body = {"workflow_type": "A", "input": "x" * 1900}
        assert body_of(await api.post("/v1/runs", json=body), 404).error == "unknown_workflow_type"


class TestUnexpected:
    @pytest.fixture
    async def broken(self, settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
        app: FastAPI = create_app(settings)

        @app.get("/broken")
        async def broken(how: str) -> None:  # pyright: ignore[reportUnusedFunction]
            raise {"bug": ZeroDivisionError, "driver": TrackerError}[how]("password=secret")

        async with served(app) as client:
            yield client

    @pytest.mark.parametrize("how", ["bug", "driver"])
    async def test_tells_nothing_but_where_to_look(
        self, broken: httpx.AsyncClient, how: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = await broken.get(f"/broken?how={how}", headers={"X-Request-Id": "mine-1"})
        error = body_of(answer, 500)
        assert (error.error, error.error_class) == ("internal_error", "fatal")
        assert "secret" not in answer.text
        assert error.details == {"request_id": "mine-1"}
        assert "password=secret" in caplog.text


class TestRequestIds:
    async def test_the_callers_own_is_kept(self, shared_api: httpx.AsyncClient) -> None:
        answer = await shared_api.get("/healthz", headers={"X-Request-Id": "abc-123"})
        assert answer.headers["X-Request-Id"] == "abc-123"

    @pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"\xff", b"a\x7f"])
    async def test_others_are_replaced(self, shared_api: httpx.AsyncClient, given: bytes) -> None:
        answer = await shared_api.get("/healthz", headers={b"X-Request-Id": given})
        assert len(answer.headers["X-Request-Id"]) == 32


class TestAway:
    async def test_postgres(self, database: str) -> None:
        server = urlsplit(database)
        assert server.port is not None
        assert server.password is not None
        async with (
            TcpProxy(server.port) as proxy,
            served(create_app(api_settings(proxy.redirect(database)))) as api,
        ):
            assert (await api.get("/readyz")).status_code == 200
            proxy.reset()
            for path in ("/v1/runs", "/readyz"):
                answer = await api.get(path)
                error = body_of(answer, 503)
                assert (error.error, error.error_class) == ("database_unavailable", "transient")
                assert answer.headers["Retry-After"] == "1"
                assert server.password not in answer.text
            assert (await api.get("/healthz")).status_code == 200
            assert "flowtrail_outbox_size NaN" in (await api.get("/metrics")).text
            proxy.pass_on()
            await eventually(lambda: self._ready(api))

    async def _ready(self, api: httpx.AsyncClient) -> bool:
        return (await api.get("/readyz")).status_code == 200

    async def test_an_unmigrated_database(self, empty_database: str) -> None:
        async with served(create_app(api_settings(empty_database))) as api:
            assert body_of(await api.get("/readyz"), 503).error == "schema_mismatch"
            error = body_of(await api.get("/v1/runs"), 500)
            assert (error.error, error.error_class) == ("schema_mismatch", "fatal")
            assert "flowtrail migrate" in error.message

    async def test_temporal(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/readyz")
        assert answer.status_code == 200
        assert answer.json() == {"status": "degraded", "database": "ok", "temporal": "unreachable"}


async def test_cross_origin_calls(database: str) -> None:
    settings = api_settings(database, allowed_origins=("https://board.example",))
    async with served(create_app(settings)) as api:
        asked = {
            "Origin": "https://board.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "X-API-Key, Idempotency-Key",
        }
        allowed = await api.options("/v1/runs", headers=asked)
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://board.example"
        refused = await api.options("/v1/runs", headers=asked | {"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in refused.headers
        failed = await api.get("/v2", headers={"Origin": "https://board.example"})
        assert failed.headers["Access-Control-Allow-Origin"] == "https://board.example"


async def test_metrics(api: httpx.AsyncClient) -> None:
    await api.get(f"/v1/runs/{new_id()}")
    await api.get("/nowhere/at/all")
    text = (await api.get("/metrics")).text
    route = 'method="GET",route="/v1/runs/{run_id}",status="404"'
    assert f"flowtrail_http_requests_total{{{route}}} 1.0" in text
    assert 'route="unmatched"' in text
    assert "flowtrail_outbox_size 0.0" in text
    assert "flowtrail_relay_started_total 0.0" in text
    assert "flowtrail_pool_size" in text


def log_lines(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.name == "api.middleware"]


async def test_one_log_line_per_request(
    api: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="api.middleware"):
        await api.get("/v1/runs?limit=1")
        await api.get("/healthz")
    [line] = log_lines(caplog)
    assert line.getMessage() == "GET /v1/runs 200"
    assert (line.event, line.route) == ("request", "/v1/runs")
