"""The API in-process, on a real database; Temporal is away unless a test asks for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.main import create_app
from api.settings import ApiSettings
from tracker.embedded.ports import free_port
from tracker.embedded.postgres import EmbeddedPostgres


@asynccontextmanager
async def served(app: FastAPI) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of an app that runs in this process; what the app does not catch is raised here."""
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            yield client


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Nothing from outside: neither settings nor Temporal profiles, and a Temporal that is away."""
    for name in ("FLOWTRAIL_DATABASE_URL", "FLOWTRAIL_AUTH", "TEMPORAL_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEMPORAL_CONFIG_FILE", str(tmp_path / "absent.toml"))
    monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "default")


@pytest.fixture
def settings(database: str) -> ApiSettings:
    """Settings for a database of this test's own, with auth off."""
    return api_settings(database)


@pytest.fixture
async def api(settings: ApiSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API, with auth off."""
    async with served(create_app(settings)) as client:
        yield client


@pytest.fixture(scope="module")
async def shared_api(
    postgres_server: EmbeddedPostgres, migrated_template: str
) -> AsyncIterator[httpx.AsyncClient]:
    """One API on an empty database for all tests of a module that leave nothing behind."""
    name = f"test_{uuid4().hex[:12]}"
    postgres_server.create_database(name, template=migrated_template)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{free_port()}")
        monkeypatch.setenv("TEMPORAL_NAMESPACE", "default")
        async with served(create_app(api_settings(postgres_server.dsn(name)))) as client:
            yield client
    postgres_server.drop_database(name)


def api_settings(database: str, **given: Any) -> ApiSettings:
    """Settings for a database; auth is off unless given."""
    values: dict[str, Any] = {"database_url": SecretStr(database), "auth": "off", **given}
    return ApiSettings(**values)
