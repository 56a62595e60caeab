"""Who may do what: every operation with every scope, with no key, and with a wrong one.

`RULES` is the table; an operation that is not in it fails the test, so that a new route cannot come
without a rule.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.auth import CACHE_SECONDS, CACHE_SIZE, Authenticator
from api.main import create_app
from api.settings import is_loopback, load_settings
from tests.api.conftest import api_settings, served
from tracker.core.ids import new_id
from tracker.errors import ConfigurationError, NotAuthenticated
from tracker.store import keys
from tracker.store.database import Database, DatabaseOptions
from tracker.store.keys import SCOPES

RULES: dict[str, str | None] = {
    "list_runs": "read",
    "get_run": "read",
    "get_step": "read",
    "timeline": "read",
    "result": "read",
    "runs_by_ref": "read",
    "list_workflows": "read",
    "workflow_types": "read",
    "stats": "read",
    "metrics": "read",
    "start_workflow": "start",
    "query": "read",
    "cancel": "control",
    "terminate": "control",
    "signal": "control",
    "update": "control",
    "queues": "read",
    "workers": "read",
    "audit": "admin",
    "failed_steps": "read",
    "failures": "read",
    "workflow_stats": "read",
    "workflow_graph": "read",
    "rerun": "control",
    "reset": "control",
    "patch_metadata": "control",
    "pause": "control",
    "unpause": "control",
    "pause_step": "control",
    "unpause_step": "control",
    "retry_step": "control",
    "start_bulk": "control",
    "cancel_bulk": "control",
    "get_bulk": "read",
    "list_bulks": "read",
    "bulk_items": "read",
    "changes": "read",
    "watch": "read",
    "report_run": "start",
    "report_step": "start",
    "ticket": "read",
    "health": None,
    "ready": None,
}
BODIES: dict[str, dict[str, Any]] = {
    "start_workflow": {"workflow_type": "Absent"},
    "report_run": {"own_id": "absent"},
    "report_step": {"name": "s", "status": "started"},
    "signal": {"name": "x"},
    "query": {"name": "x"},
    "update": {"name": "x"},
    "patch_metadata": {"metadata": {"a": 1}},
    "start_bulk": {"action": "cancel", "filter": {"task_queue": "absent"}, "dry_run": True},
}


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    name: str
    method: str
    path: str

    async def call(self, api: httpx.AsyncClient, headers: dict[str, str]) -> httpx.Response:
        ids = {name: new_id() for name in ("run_id", "step_id", "bulk_id")}
        places = {**ids, "workflow_type": "Order", "ref_type": "order", "ref_id": "o-1"}
        body = BODIES.get(self.name)
        # A stream that begins has no end.
        query = {"after": "refused"} if self.name == "watch" else None
        return await api.request(
            self.method, self.path.format(**places), headers=headers, json=body, params=query
        )


def operations(app: FastAPI) -> list[Operation]:
    return [
        Operation(operation["operationId"], method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    ]


@dataclass(frozen=True)
class Guarded:
    """An API with auth on, and a key of every scope."""

    app: FastAPI
    client: httpx.AsyncClient
    database: Database
    secrets: dict[str, str]


@pytest.fixture
async def guarded(database: str) -> AsyncIterator[Guarded]:
    app = create_app(api_settings(database, auth="on"))
    async with served(app) as client, Database(DatabaseOptions(database)) as pool:
        secrets = {scope: (await keys.create(pool, scope, [scope]))[1] for scope in SCOPES}
        yield Guarded(app, client, pool, secrets)


async def test_every_operation_has_a_rule(guarded: Guarded) -> None:
    assert {operation.name for operation in operations(guarded.app)} == set(RULES)


async def test_every_operation_with_every_scope(guarded: Guarded) -> None:
    for operation in operations(guarded.app):
        needed = RULES[operation.name]
        for scope, secret in guarded.secrets.items():
            answer = await operation.call(guarded.client, {"X-API-Key": secret})
            if needed in (None, scope) or scope == "admin":
                assert answer.status_code not in (401, 403), (operation, scope, answer.text)
            else:
                assert answer.status_code == 403, (operation, scope, answer.text)
                assert answer.json()["error"] == "not_allowed"
                assert answer.json()["details"]["needed"] == needed


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "ft_wrong"},
        {"Authorization": "Bearer ft_wrong"},
        {"Authorization": "Basic dTpw"},
        {"Authorization": "Bearer"},
    ],
    ids=str,
)
async def test_every_operation_without_a_valid_key(
    guarded: Guarded, headers: dict[str, str]
) -> None:
    for operation in operations(guarded.app):
        answer = await operation.call(guarded.client, headers)
        if RULES[operation.name] is None:
            assert answer.status_code == 200, (operation, answer.text)
        else:
            assert answer.status_code == 401, (operation, answer.text)
            assert answer.json()["error"] == "not_authenticated"
            assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_the_documentation_asks_for_no_key(guarded: Guarded) -> None:
    for path in ("/docs", "/openapi.json"):
        assert (await guarded.client.get(path)).status_code == 200


async def test_a_key_as_bearer_token(guarded: Guarded) -> None:
    headers = {"Authorization": f"Bearer {guarded.secrets['read']}"}
    assert (await guarded.client.get("/v1/runs", headers=headers)).status_code == 200


class TestAuthenticator:
    async def test_a_revoked_key_works_until_the_cache_forgets_it(self, guarded: Guarded) -> None:
        now = 0.0
        authenticator = Authenticator(guarded.database, enabled=True, clock=lambda: now)
        secret = guarded.secrets["read"]
        assert (await authenticator.caller(secret)).name == "read"
        await keys.revoke(guarded.database, "read")
        now = CACHE_SECONDS * 0.9
        assert (await authenticator.caller(secret)).name == "read"
        now = CACHE_SECONDS * 1.1
        with pytest.raises(NotAuthenticated):
            await authenticator.caller(secret)

    async def test_an_expired_key_is_refused_though_cached(self, guarded: Guarded) -> None:
        soon = datetime.now(UTC) + timedelta(milliseconds=300)
        _, secret = await keys.create(guarded.database, "short", ["read"], soon)
        authenticator = Authenticator(guarded.database, enabled=True, clock=lambda: 0.0)
        assert (await authenticator.caller(secret)).name == "short"
        while datetime.now(UTC) <= soon:
            await guarded.client.get("/healthz")
        with pytest.raises(NotAuthenticated):
            await authenticator.caller(secret)

    async def test_guessing_does_not_fill_the_memory(self, guarded: Guarded) -> None:
        authenticator = Authenticator(guarded.database, enabled=True)
        for number in range(CACHE_SIZE + 10):
            with pytest.raises(NotAuthenticated):
                await authenticator.caller(f"ft_{number}")
        assert authenticator.remembered == CACHE_SIZE

    async def test_secrets_of_any_bytes(self, guarded: Guarded) -> None:
        for secret in (b"\xff\xfe", "ключ".encode(), b"\x7f"):
            answer = await guarded.client.get("/v1/runs", headers={b"X-API-Key": secret})
            assert answer.status_code == 401


class TestSettings:
    @pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "api.example.org", "::"])
    def test_auth_is_off_on_loopback_only(self, host: str) -> None:
        with pytest.raises(ConfigurationError, match="auth=off is for loopback only"):
            load_settings(database_url="postgresql://db/x", auth="off", api_host=host)
        assert load_settings(database_url="postgresql://db/x", api_host=host).auth == "on"

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
    def test_what_is_loopback(self, host: str) -> None:
        assert is_loopback(host)
        assert load_settings(database_url="x", auth="off", api_host=host).auth == "off"

    def test_a_missing_setting_is_named(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ConfigurationError, match="FLOWTRAIL_DATABASE_URL"):
            load_settings()

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLOWTRAIL_DATABASE_URL", "postgresql://db/x")
        monkeypatch.setenv("FLOWTRAIL_ALLOWED_ORIGINS", "https://a.example, https://b.example")
        monkeypatch.setenv("FLOWTRAIL_SCHEMA", "tracking")
        monkeypatch.setenv("FLOWTRAIL_API_PORT", "")
        settings = load_settings(api_host="::1")
        assert settings.allowed_origins == ("https://a.example", "https://b.example")
        assert settings.database_options().schema == "tracking"
        assert (settings.api_host, settings.api_port) == ("::1", 8080)
        assert "db/x" not in repr(settings)
