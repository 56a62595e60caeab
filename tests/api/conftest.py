"""The API in-process, on a real database; Temporal is away unless a test asks for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.main import create_app
from api.settings import ApiSettings
from tracker.embedded.ports import free_port

Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


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


def api_settings(database: str, **given: Any) -> ApiSettings:
    """Settings for a database; auth is off unless given."""
    values: dict[str, Any] = {"database_url": SecretStr(database), "auth": "off", **given}
    return ApiSettings(**values)
