"""A client with a key, as Flowflare's `WorkflowClient` sends it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from api.main import create_app
from tests.api.conftest import api_settings, served
from tracker.store import keys
from tracker.store.database import Database


@pytest.fixture
async def secret(store: Database) -> str:
    _, secret = await keys.create(store, "flowflare", ["read", "start"])
    return secret


@pytest.fixture
async def flowflare(database: str, secret: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key, as `WorkflowClient` sends it."""
    async with served(create_app(api_settings(database, auth="on"))) as client:
        client.headers["X-API-Key"] = secret
        yield client
